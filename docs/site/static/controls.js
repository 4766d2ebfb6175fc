// What shows ipywidgets asks for formulas in the words of MathJax 2; these pass its wishes on to the one that is here.
document.addEventListener("DOMContentLoaded", () => {
  if (!window.MathJax) return;
  window.MathJax.Hub = {
    Queue: ([, , element]) => window.MathJax.startup.promise.then(() => window.MathJax.typesetPromise([element])),
  };
});
