// Who is logged in, where the server wants a token, and the dialog that asks for one. The token goes
// to the server and is kept nowhere here: its answer is a cookie that no script can read.
import { getSession, logIn, logOut, setOnUnauthorized } from "./api.js";

const dialog = document.getElementById("login-dialog");
const [form, token, trouble, enter] = ["form", "token", "trouble", "enter"].map((name) =>
  dialog.querySelector(`[data-part=${name}]`),
);
const session = document.getElementById("session");
const leave = document.getElementById("logout");

setOnUnauthorized(() => {
  if (!dialog.open) dialog.showModal();
});

export async function showSession() {
  try {
    const { tokens, tenant, role, name } = await getSession();
    session.hidden = leave.hidden = !tokens;
    session.textContent = `${name || role} of ${tenant}`;
  } catch {
    /* the dialog, or the view that is open, says so */
  }
}

// Nothing of before stays: the next one to log in may be another.
const startAnew = () => location.reload();

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  enter.disabled = true;
  trouble.textContent = "";
  try {
    await logIn(token.value.trim());
    token.value = "";
    startAnew();
  } catch (error) {
    trouble.textContent = error.status === 401 ? "No such token." : `Not logged in: ${error.message}`;
    enter.disabled = false;
    token.focus();
  }
});

// There is nothing to see without a token.
dialog.addEventListener("cancel", (event) => event.preventDefault());

leave.addEventListener("click", () => logOut().then(startAnew, startAnew));
