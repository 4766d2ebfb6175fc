// Live controls in a lesson: a button takes the place of the still picture with controls that work.

import { element } from "./dom.js";

const KINDS = {
  plane: {
    words: "Move the point here",
    mount: async (place) => new (await import("./plane.js")).PlanePanel(place).loadNow(),
  },
  swap: {
    words: "Change the codes here",
    mount: async (place) => new (await import("./swap.js")).SwapPanel(place).loadNow(),
  },
  draw: {
    words: "Change the settings here",
    mount: async (place) => new (await import("./panel.js")).DrawPanel(place).loadNow(),
  },
};

for (const place of document.querySelectorAll("[data-live]")) {
  const { words, mount } = KINDS[place.dataset.live];
  const button = element("button", { type: "button", className: "go-live" }, words);
  button.addEventListener("click", async () => {
    await mount(place);
    place.querySelector("input, select")?.focus();
  });
  place.append(
    element(
      "p",
      { className: "ask" },
      button,
      " The first time, this fetches the model, which then runs in this page.",
    ),
  );
}
