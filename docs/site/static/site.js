// What the theme leaves open for those who use a keyboard or a screen reader.
document.addEventListener("DOMContentLoaded", () => {
  // A block that is wider than the page is scrolled with the keyboard once it can have the focus.
  for (const block of document.querySelectorAll("pre, .table-wrapper")) {
    block.tabIndex = 0;
  }
  // Sphinx makes the captions of the navigation headings without a level.
  for (const caption of document.querySelectorAll('.caption[role="heading"]')) {
    caption.ariaLevel = "2";
  }
  // A signature of several lines is a list of definitions only in its markup.
  for (const part of document.querySelectorAll("dt.sig dl, dt.sig dd")) {
    part.role = "presentation";
  }
});
