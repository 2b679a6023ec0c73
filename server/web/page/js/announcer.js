// What a screen reader is told, politely: states, results and the connection, never each step. What
// comes in a burst (a log that is replayed) is told by its last piece of news.
const QUIET_MS = 700;

let timer;

export function announce(text) {
  clearTimeout(timer);
  timer = setTimeout(() => {
    document.getElementById("announcer").textContent = text;
  }, QUIET_MS);
}
