// The bubbles of the chat. What a model or a person wrote goes in through textContent only.

function copyOf(id) {
  return document.getElementById(id).content.firstElementChild.cloneNode(true);
}

/** A turn of text, added to the end of the conversation. */
export function bubble(list, role, who, text) {
  const article = copyOf("message-template");
  article.classList.add(role);
  article.querySelector(".who").textContent = who;
  article.querySelector(".text").textContent = text;
  list.append(article);
  return article;
}

/** A box with a sentence about what went wrong. */
export function notice(title, text) {
  const box = document.createElement("div");
  box.className = "problem";
  box.setAttribute("role", "alert");
  const line = document.createElement("p");
  const strong = document.createElement("strong");
  strong.textContent = title;
  line.append(strong, ` ${text}`);
  box.append(line);
  return box;
}

/** An answer in words: `take` deltas as they come; `finish` and `stop` give the turn to keep. */
export function textView(list, model) {
  const article = bubble(list, "assistant", model, "");
  article.classList.add("busy");
  const box = article.querySelector(".text");
  function finish() {
    article.classList.remove("busy");
    return { role: "assistant", content: box.textContent, model };
  }
  return {
    article,
    take(delta) { if (delta.content) box.append(delta.content); },
    finish,
    stop() { return box.textContent ? finish() : null; },
    remove() { article.remove(); },
  };
}

/** An answer as a diagram: drafts show in the source pane while they are written. */
export function drawingView(list, model, onPicture) {
  const article = copyOf("drawing-template");
  const status = article.querySelector(".drafting");
  const source = article.querySelector(".source");
  article.querySelector(".who").textContent = model;
  status.textContent = "Thinking…";
  list.append(article);
  let attempt = 0;
  let content = "";
  let diagram = null;

  function draft({ attempt: number, text }) {
    if (number !== attempt) {
      attempt = number;
      source.textContent = "";
      status.textContent = attempt > 1 ? `Drawing, attempt ${attempt}: the last one had an error…` : "Drawing…";
    }
    source.append(text);
    source.scrollTop = source.scrollHeight;
  }

  return {
    article,
    take(delta) {
      if (delta.draft) draft(delta.draft);
      if (delta.content) {
        content += delta.content;
        source.textContent = content;
        source.scrollTop = 0;
      }
      if (delta.diagram) diagram = delta.diagram;
    },
    finish() {
      const shown = diagram ?? { rendered: false, attempts: attempt, error: { message: "The answer came without a diagram." } };
      status.replaceWith(...(shown.rendered ? picture(shown, onPicture) : [failure(shown)]));
      return { role: "assistant", content, model, diagram };
    },
    stop() { return null; },
    remove() { article.remove(); },
  };
}

function attempts(count) {
  return count === 1 ? "1 attempt" : `${count} attempts`;
}

function picture(diagram, onPicture) {
  const image = document.createElement("img");
  image.alt = "Diagram drawn from the source beside it";
  image.addEventListener("load", onPicture);
  image.src = diagram.svg_url;
  const caption = document.createElement("figcaption");
  caption.append(attempts(diagram.attempts));
  for (const [name, url] of [["SVG", diagram.svg_url], ["PNG", diagram.png_url]]) {
    const link = document.createElement("a");
    link.href = url;
    link.download = "";
    link.textContent = name;
    caption.append(" · ", link);
  }
  return [image, caption];
}

function failure(diagram) {
  const where = diagram.error?.line ? `Line ${diagram.error.line}: ` : "";
  return notice(`Not drawable after ${attempts(diagram.attempts)}.`, where + (diagram.error?.message ?? ""));
}
