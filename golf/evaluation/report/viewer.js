"use strict";
// One 3D view, created when the first molecule is opened: browsers limit the number of WebGL contexts on a page, and
// parsing 3Dmol.js takes longer than showing the rest of the page.
(() => {
  const byId = (id) => document.getElementById(id);
  const dialog = byId("viewer"), scene = byId("viewer-scene");
  const buttons = [...document.querySelectorAll("button.open")];
  const layers = [...dialog.querySelectorAll("input")];
  const geometries = JSON.parse(byId("geometries").textContent);
  let view = null, shown = -1;

  const colour = (name) => getComputedStyle(dialog).getPropertyValue(`--${name}`).trim();

  function makeView() {
    if (!window.$3Dmol) {
      const script = document.createElement("script");
      script.textContent = byId("viewer-library").textContent;
      document.head.append(script);
      // A closed dialog has no size, and a canvas of no size is an error of WebGL.
      const resize = $3Dmol.GLViewer.prototype.resize;
      $3Dmol.GLViewer.prototype.resize = function () {
        if (scene.clientWidth) resize.call(this);
      };
    }
    try {
      view = $3Dmol.createViewer(scene, { backgroundColor: colour("tint"), antialias: true, disableFog: true });
    } catch (error) {
      view = null;
    }
    if (!view) scene.innerHTML = "<p>This browser cannot draw in 3D because WebGL is off.</p>";
  }

  function atomsOf(geometry, layer) {
    const positions = geometry[layer];
    const atoms = geometry.elements.map((elem, i) => ({
      elem, serial: i, x: positions[3 * i], y: positions[3 * i + 1], z: positions[3 * i + 2], bonds: [], bondOrder: [],
    }));
    for (const [i, j, order] of geometry.bonds) {
      atoms[i].bonds.push(j); atoms[i].bondOrder.push(order);
      atoms[j].bonds.push(i); atoms[j].bondOrder.push(order);
    }
    return atoms;
  }

  function draw(again) {
    if (!view) return;
    view.removeAllModels();
    const geometry = geometries[shown];
    for (const { value: layer, checked } of layers) {
      if (!checked) continue;
      const model = view.addModel();
      model.addAtoms(atomsOf(geometry, layer));
      const hue = colour(layer);
      model.setStyle({}, { stick: { radius: 0.09, color: hue } });
      model.setStyle({ elem: "H" }, { stick: { radius: 0.05, color: hue } });
      // Small balls in the colours of the elements tell atoms apart, the sticks tell geometries apart.
      model.setStyle({ elem: ["C", "H"], invert: true }, {
        stick: { radius: 0.09, color: hue }, sphere: { radius: 0.16, colorscheme: "Jmol" },
      });
    }
    if (again) { view.zoomTo(); view.zoom(1.5); }
    view.render();
  }

  function show(index) {
    shown = (index + buttons.length) % buttons.length;
    const button = buttons[shown];
    byId("viewer-title").textContent = button.dataset.title;
    byId("viewer-numbers").innerHTML = button.closest(".case").querySelector("dl").innerHTML;
    if (!dialog.open) dialog.showModal();
    if (!view) makeView();
    draw(true);
  }

  buttons.forEach((button, index) => button.addEventListener("click", () => show(index)));
  byId("viewer-before").addEventListener("click", () => show(shown - 1));
  byId("viewer-after").addEventListener("click", () => show(shown + 1));
  byId("viewer-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => buttons[shown].focus());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  layers.forEach((layer) => layer.addEventListener("change", () => draw(false)));
  const keys = {
    ArrowLeft: () => view.rotate(-10, "y"), ArrowRight: () => view.rotate(10, "y"),
    ArrowUp: () => view.rotate(-10, "x"), ArrowDown: () => view.rotate(10, "x"),
    "+": () => view.zoom(1.15), "-": () => view.zoom(1 / 1.15),
  };
  scene.addEventListener("keydown", (event) => {
    if (!view || !keys[event.key]) return;
    keys[event.key]();
    event.preventDefault();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    if (!view) return;
    view.setBackgroundColor(colour("tint"));
    draw(false);
  });
})();
