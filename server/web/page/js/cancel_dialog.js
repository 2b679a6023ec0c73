// Asks before a job is cancelled. The dialog element keeps the focus inside and gives it back.
import { cancelJob } from "./api.js";
import { announce } from "./announcer.js";

const dialog = document.getElementById("cancel-dialog");
const [question, trouble, yes, no] = ["question", "trouble", "yes", "no"].map((name) =>
  dialog.querySelector(`[data-part=${name}]`),
);

let job;
let onDone;

export function askToCancel(id, done) {
  job = id;
  onDone = done;
  question.textContent = `Cancel job ${id}?`;
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
    const answer = await cancelJob(job);
    dialog.close();
    onDone(answer);
  } catch (error) {
    trouble.textContent = `Not cancelled: ${error.message}`;
    yes.disabled = false;
  }
});
