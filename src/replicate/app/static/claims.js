// Rows of a table of claims: those that hold every word of the search field and have the chosen verdict, in the order of the
// column whose head was clicked. Without scripts the whole table stands there.
document.querySelectorAll("table.claims").forEach((table) => {
  const body = table.tBodies[0];
  const form = table.parentElement.previousElementSibling;
  const [search, verdict, shown] = form.querySelectorAll("input, select, output");
  const rows = [...body.rows];
  const text = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
  const filter = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const row of rows) {
      const fits = words.every((word) => text.get(row).includes(word)) && (!verdict.value || row.dataset.verdict === verdict.value);
      row.hidden = !fits;
      count += fits;
    }
    shown.value = `${count} of ${rows.length} rows`;
  };
  const sort = (head) => {
    const column = [...head.parentElement.children].indexOf(head);
    const up = head.getAttribute("aria-sort") !== "ascending";
    table.querySelectorAll("th").forEach((each) => each.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const key = (row) => row.cells[column].textContent;
    const order = (a, b) => {
      const difference = parseFloat(a) - parseFloat(b);
      return Number.isNaN(difference) ? a.localeCompare(b, "en", { numeric: true }) : difference;
    };
    const rank = (a, b) => (!a - !b) || (up ? 1 : -1) * order(a, b); // empty cells stay below
    rows.sort((a, b) => rank(key(a), key(b)));
    body.append(...rows);
  };
  search.addEventListener("input", filter);
  verdict.addEventListener("change", filter);
  table.querySelectorAll("th button").forEach((button) => button.addEventListener("click", () => sort(button.parentElement)));
  form.hidden = false;
  filter();
});
// A link to a claim or a section opens whatever holds it; a wide screen shows sections open.
const openTo = () => {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let each = target; each; each = each.parentElement) {
    if (each.tagName === "DETAILS") each.open = true;
  }
  target?.querySelector(":scope > details.fold")?.setAttribute("open", "");
  target?.scrollIntoView();
};
if (matchMedia("(min-width: 60rem)").matches) {
  document.querySelectorAll("details.fold").forEach((each) => { each.open = true; });
}
if (location.hash) openTo();
addEventListener("hashchange", openTo);
