// Loads the model of a live control in a lesson.

import { Fault } from "./fault.js";
import { listOfModels, Painter } from "./painter.js";

/**
 * Give a panel its `painter` and `manifest`; what goes wrong is said in its status.
 * @param panel has `folder`, the model's, and the elements `status` and `progress`
 * @param begin draws the first pictures
 * @param ready is said afterwards
 */
export async function loadModel(panel, begin, ready) {
  const { status, progress } = panel;
  try {
    status.textContent = "Loading the decoder.";
    panel.painter = new Painter();
    const list = await listOfModels();
    panel.manifest = await panel.painter.load(list, panel.folder, (share) => (progress.value = share));
    await begin();
    status.textContent = ready;
  } catch (fault) {
    if (!(fault instanceof Fault)) throw fault;
    status.textContent = fault.message;
    status.classList.add("fault");
  }
  progress.hidden = true;
}
