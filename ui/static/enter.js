// Enter sends a message. Loaded before the page is drawn: until the chat's own script is there,
// the form goes to the server as a form, and the answer comes as a page.

document.addEventListener("keydown", (event) => {
  if (event.target.id !== "message" || event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  event.target.form.requestSubmit();
});
