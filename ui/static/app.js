// Every page: copy buttons, and what keeps a live panel usable while it is replaced.
// Text goes into the page through textContent only.

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const text = document.getElementById(button.dataset.copy).textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(document.getElementById(button.dataset.copy));
    button.textContent = "Press Ctrl+C";
  }
  setTimeout(() => { button.textContent = "Copy"; }, 2000);
});

function showCopyButtons() {
  for (const button of document.querySelectorAll("[data-copy][hidden]")) button.hidden = false;
}

// The log keeps its place: at the end while its reader is at the end.
const log = { top: 0, atEnd: true };
function rememberLog() {
  const box = document.getElementById("log");
  if (!box) return;
  log.top = box.scrollTop;
  log.atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 8;
}
function restoreLog() {
  const box = document.getElementById("log");
  if (box) box.scrollTop = log.atEnd ? box.scrollHeight : log.top;
}

const opened = new Set();
function rememberOpened(panel) {
  opened.clear();
  for (const details of panel.querySelectorAll("details[open]")) opened.add(details.firstElementChild.textContent);
}
function restoreOpened(panel) {
  for (const details of panel.querySelectorAll("details")) {
    if (opened.has(details.firstElementChild.textContent)) details.open = true;
  }
}

// Replacing what somebody is selecting would take it from under the mouse. The next event carries
// the whole panel anyway; when there is none, the page is loaded anew once nothing is selected.
const skipped = new Set();
document.addEventListener("htmx:sseBeforeMessage", (event) => {
  // An older evaluation was chosen: it stays until the reader asks for the latest.
  if (event.target.querySelector("[data-pinned]")) {
    event.preventDefault();
    return;
  }
  const selection = getSelection();
  const busy = !selection.isCollapsed && event.target.contains(selection.anchorNode);
  skipped[busy ? "add" : "delete"](event.target.id);
  if (busy) event.preventDefault();
  rememberLog();
  rememberOpened(event.target);
});
document.addEventListener("htmx:sseMessage", (event) => {
  restoreLog();
  restoreOpened(event.target);
  showCopyButtons();
});
document.addEventListener("htmx:sseClose", () => {
  if (!skipped.size) return;
  const showTheEnd = () => { if (getSelection().isCollapsed) location.reload(); };
  document.addEventListener("selectionchange", showTheEnd);
  showTheEnd();
});
document.addEventListener("DOMContentLoaded", () => {
  showCopyButtons();
  restoreLog();
});

// A double click must not start two runs. Coming back to the page makes its forms usable again.
document.addEventListener("submit", (event) => {
  if (event.defaultPrevented || event.target.method !== "post") return;
  if (event.target.dataset.sent) event.preventDefault();
  event.target.dataset.sent = "yes";
});
addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
});
