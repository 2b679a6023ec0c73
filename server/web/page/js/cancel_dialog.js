// Asks before a job or a run is cancelled. The dialog element keeps the focus inside and gives it back.
import { cancel } from "./api.js";
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

let asked;
let onDone;

// name: "jobs/x" or "runs/r-x".
export function askToCancel(name, done) {
  asked = name;
  onDone = done;
  const word = name.startsWith("runs/") ? "run" : "job";
  question.textContent = `Cancel ${word} ${idOf(name)}?`;
  loss.textContent = `It stops within one step. ${LOSSES[word]}`;
  yes.textContent = `Cancel the ${word}`;
  trouble.textContent = "";
  yes.disabled = false;
  dialog.showModal();
  no.focus();
}

no.addEventListener("click", () => dialog.close());

yes.addEventListener("click", async () => {
  yes.disabled = true;
  announce("Cancel requested."); // first: the news of the job's end may overtake the answer
  try {
    const answer = await cancel(asked);
    dialog.close();
    onDone(answer);
  } catch (error) {
    trouble.textContent = `Not cancelled: ${error.message}`;
    yes.disabled = false;
  }
});
