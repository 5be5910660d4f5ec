"""How a page looks: one style sheet, for a wide screen, for a phone and for eyes that like it dark."""

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #ffffff; --ink: #1c2024; --quiet: #5c6670; --line: #dfe3e8; --box: #f5f7f9;
  --yes: #0b6b3a; --yes-box: #dff3e6; --no: #9b2c16; --no-box: #fbe5df; --open: #6b5300; --open-box: #f8efcf;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #121212; --ink: #e6e8ea; --quiet: #a3acb5; --line: #33383d; --box: #1c1f22;
    --yes: #8fe0b0; --yes-box: #12351f; --no: #ffb4a1; --no-box: #431a10; --open: #ecd57f; --open-box: #382e0c;
  }
  /* a plot is drawn on white: its light is turned round and its colors stay */
  figure img { filter: invert(0.93) hue-rotate(180deg); }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 1rem/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  overflow-wrap: break-word;
}
main { max-width: 46rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.8rem; line-height: 1.25; margin: 0 0 1.5rem; }
h2 { font-size: 1.25rem; line-height: 1.3; margin: 0 0 0.75rem; }
p, ul { margin: 0 0 1rem; }
ul { padding-left: 1.25rem; }
li { margin-bottom: 0.35rem; }
section { margin-top: 3rem; padding-top: 1.5rem; border-top: 1px solid var(--line); }
.summary { background: var(--box); border: 1px solid var(--line); border-radius: 0.6rem; padding: 1.1rem 1.25rem; }
.summary dl, .made dl { display: grid; grid-template-columns: 11rem 1fr; gap: 0.4rem 1.25rem; margin: 0; }
dt { color: var(--quiet); }
dd { margin: 0; min-width: 0; }
.made { color: var(--quiet); font-size: 0.85rem; line-height: 1.5; padding: 1rem 1.25rem 0; }
.made dl { gap: 0.15rem 1.25rem; }
.mark { display: inline-block; border-radius: 1rem; padding: 0 0.6rem; font-weight: 600; font-size: 0.9rem; }
.mark { color: var(--quiet); background: var(--line); }
.mark.yes { color: var(--yes); background: var(--yes-box); }
.mark.no { color: var(--no); background: var(--no-box); }
.mark.undecided { color: var(--open); background: var(--open-box); }
.scroll { overflow-x: auto; margin: 0 0 1.25rem; }
.scroll:focus-visible { outline: 2px solid var(--quiet); outline-offset: 2px; }
table { border-collapse: collapse; font-size: 0.9rem; line-height: 1.4; font-variant-numeric: tabular-nums; }
th, td { padding: 0.4rem 0.9rem 0.4rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { text-align: right; font-weight: 600; color: var(--quiet); white-space: nowrap; }
td { text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
th:last-child, td:last-child { padding-right: 0.2rem; }
table.prose td:last-child { text-align: left; white-space: normal; overflow-wrap: anywhere; }
table.prose th:last-child { text-align: left; }
table.prose td:first-child { white-space: normal; width: 10rem; }
figure { margin: 0 0 1.25rem; }
figure img { display: block; width: 100%; max-width: 36rem; height: auto; margin: 0 auto; }
code { font: 0.85rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
pre { margin: 0; padding: 0.7rem 0.9rem; background: var(--box); border-radius: 0.4rem; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; }
.again { color: var(--quiet); font-size: 0.9rem; margin: 0 0 0.3rem; }
@media (max-width: 32rem) {
  main { padding: 1.5rem 1rem 3rem; }
  h1 { font-size: 1.45rem; }
  .summary { padding: 0.9rem 1rem; }
  .summary dl, .made dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: 0.6rem; }
  .made { padding: 1rem 1rem 0; }
  table.prose td:first-child { width: 6.5rem; }
  table.prose { overflow-wrap: anywhere; }
}
@media print { section { break-inside: avoid; } }
"""
