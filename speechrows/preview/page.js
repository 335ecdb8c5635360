// What a page alone can do: the playhead over a clip's pictures, one clip at a time, walking with keys.
(() => {
  const lanesOf = (audio) =>
    [...document.querySelectorAll(".lanes[data-src]")].filter((l) => l.dataset.src === audio.getAttribute("src"));

  function move(audio) {
    for (const lanes of lanesOf(audio)) {
      const head = lanes.querySelector(".playhead");
      head.classList.add("is-on");
      head.style.left = `${Math.min(100, (100 * audio.currentTime) / Number(lanes.dataset.total))}%`;
    }
  }

  document.addEventListener("play", (event) => {
    for (const other of document.querySelectorAll("audio")) if (other !== event.target) other.pause();
    // A player that was clicked would keep every key to itself; one that was tabbed to may.
    if (!event.target.matches(":focus-visible")) event.target.blur();
    const follow = () => {
      move(event.target);
      if (!event.target.paused && event.target.isConnected) requestAnimationFrame(follow);
    };
    follow();
  }, true);
  document.addEventListener("seeked", (event) => move(event.target), true);

  // A click into the pictures plays from there.
  document.addEventListener("click", (event) => {
    const lanes = event.target.closest?.(".lanes[data-src]");
    if (!lanes) return;
    const audio = lanes.parentElement.querySelector("audio");
    const box = lanes.getBoundingClientRect();
    const time = (Number(lanes.dataset.total) * (event.clientX - box.left)) / box.width;
    const seek = () => { audio.currentTime = Math.min(time, audio.duration || time); };
    if (audio.readyState >= 1) seek();
    else audio.addEventListener("loadedmetadata", seek, { once: true });
    audio.play();
  });

  // The turn that is open is in sight on the frames.
  new MutationObserver(() => {
    for (const grid of document.querySelectorAll(".grid-scroll:not([data-seen])")) {
      grid.dataset.seen = "";
      const clip = grid.querySelector(".clip.is-open");
      if (clip) grid.scrollLeft = clip.offsetLeft - 60;
    }
  }).observe(document.documentElement, { childList: true, subtree: true });

  function read(token) {
    const panel = token.closest(".panel");
    for (const on of panel.querySelectorAll(".tok.is-on")) on.classList.remove("is-on");
    panel.querySelector(".readout").textContent = token.title;
  }
  for (const pointed of ["mouseover", "click"]) { // by a finger it may be the click alone
    document.addEventListener(pointed, (event) => {
      if (event.target.classList?.contains("tok")) read(event.target);
    });
  }

  function walk(tokens, key) {
    const all = [...tokens.querySelectorAll(".tok")];
    const at = all.findIndex((token) => token.classList.contains("is-on"));
    const step = { ArrowRight: 1, ArrowLeft: -1 }[key];
    const token = all[Math.max(0, Math.min(all.length - 1, at < 0 ? 0 : at + step))];
    if (!token) return;
    read(token);
    token.classList.add("is-on");
    token.scrollIntoView({ block: "nearest" });
  }

  const STEPS = { j: "sr-next-turn", k: "sr-turn-before", n: "sr-next", p: "sr-before", r: "sr-random" };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest?.("input, textarea, select, [contenteditable]")) return;
    const tokens = event.target.closest?.(".tokens");
    if (tokens && (event.key === "ArrowRight" || event.key === "ArrowLeft")) {
      event.preventDefault();
      walk(tokens, event.key);
    } else if (event.key === "/") {
      event.preventDefault();
      document.querySelector("#sr-find textarea, #sr-find input")?.focus();
    } else if (event.key === " " && !event.target.closest?.("button, audio, summary, a")) {
      const audio = document.querySelector(".open-row audio");
      if (!audio) return;
      event.preventDefault();
      if (audio.paused) audio.play();
      else audio.pause();
    } else if (STEPS[event.key]) {
      document.getElementById(STEPS[event.key])?.click();
    }
  });
})();
