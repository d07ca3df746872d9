addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((part) => { part.open = true; }));
addEventListener("click", (event) => {
  const place = event.target.closest('a[href^="#"]');
  if (place) document.getElementById(place.getAttribute("href").slice(1))?.closest("details")?.setAttribute("open", "");
  const link = event.target.closest("a[data-samples]");
  if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey) return;
  event.preventDefault();
  const probe = new Image();
  probe.onload = () => { location.href = link.getAttribute("href"); };
  probe.onerror = () => document.getElementById("no-samples").showModal();
  probe.src = "view/probe.svg";
});
