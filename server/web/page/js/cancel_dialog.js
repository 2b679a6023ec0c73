// Asks before a job or a run is cancelled or deleted. The dialog element keeps the focus inside and
// gives it back.
import { cancel, remove } from "./api.js";
import { announce } from "./announcer.js";
import { idOf } from "./format.js";

const dialog = document.getElementById("cancel-dialog");
const [question, loss, trouble, yes, no] = ["question", "loss", "trouble", "yes", "no"].map(
  (name) => dialog.querySelector(`[data-part=${name}]`),
);

// What becomes of its work.
const LOSSES = {
  job: "Results of the methods that have ended are kept; the rest is lost.",
  run: "What is pruned by then is kept, and Resume goes on behind it.",
};

let asked; // {act, said, failed, done}

function ask(texts, what) {
  asked = what;
  question.textContent = texts.question;
  loss.textContent = texts.loss;
  yes.textContent = texts.yes;
  trouble.textContent = "";
  yes.disabled = false;
  dialog.showModal();
  no.focus();
}

const wordOf = (name) => (name.startsWith("runs/") ? "run" : "job");

// name: "jobs/x" or "runs/r-x".
export function askToCancel(name, done) {
  const word = wordOf(name);
  ask(
    {
      question: `Cancel ${word} ${idOf(name)}?`,
      loss: `It stops within one step. ${LOSSES[word]}`,
      yes: `Cancel the ${word}`,
    },
    { act: () => cancel(name), said: "Cancel requested.", failed: "Not cancelled", done },
  );
}

export function askToDelete(name, done) {
  const word = wordOf(name);
  ask(
    {
      question: `Delete ${word} ${idOf(name)}?`,
      loss: "Its results, curves and masks go with it, for good.",
      yes: `Delete the ${word}`,
    },
    { act: () => remove(name), said: "Delete requested.", failed: "Not deleted", done },
  );
}

no.addEventListener("click", () => dialog.close());

yes.addEventListener("click", async () => {
  const now = asked;
  const { act, said, failed, done } = now;
  yes.disabled = true;
  announce(said); // first: the news of the job's end may overtake the answer
  try {
    const answer = await act();
    if (asked === now) dialog.close(); // unless it was left, and asks of another by now
    done(answer);
  } catch (error) {
    if (asked !== now) return;
    trouble.textContent = `${failed}: ${error.message}`;
    yes.disabled = false;
  }
});
