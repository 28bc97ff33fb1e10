/* Keeps the parts of the page up to date. Without it, the page is what it was when it was loaded. */
"use strict";
(() => {
  const root = document.querySelector(".djw[data-live]");
  const live = document.getElementById("djw-live");
  if (!root || !live) {
    return;
  }
  const INTERVAL = 2000; // milliseconds between two looks
  const LONGEST = 8000; // for an answer

  function say(state, text) {
    live.hidden = false;
    live.dataset.state = state;
    if (live.textContent !== text) {
      live.textContent = text;
    }
  }

  function replace(name, html) {
    const part = document.getElementById("djw-" + name);
    if (!part || part.shown === html || part.contains(document.activeElement)) {
      return; // the keyboard may be on a link of it
    }
    const left = [...part.querySelectorAll(".djw-scroll")].map((box) => box.scrollLeft);
    part.innerHTML = part.shown = html;
    part.querySelectorAll(".djw-scroll").forEach((box, number) => { box.scrollLeft = left[number] || 0; });
  }

  async function look() {
    if (document.hidden) {
      return; // it is not seen
    }
    const answer = await fetch(root.dataset.live, {
      headers: { Accept: "application/json" },
      credentials: "same-origin",
      signal: AbortSignal.timeout(LONGEST),
    });
    if (answer.redirected || !answer.ok) {
      throw new Error(answer.redirected ? "log in again" : "status " + answer.status);
    }
    const told = await answer.json();
    if (told.trouble) {
      throw new Error(told.trouble);
    }
    Object.entries(told.html).forEach(([name, html]) => replace(name, html));
    say("live", "live");
  }

  async function lookForEver() {
    try {
      await look();
    } catch (error) {
      say("lost", "not up to date: " + error.message);
    }
    setTimeout(lookForEver, INTERVAL);
  }

  lookForEver();
})();
