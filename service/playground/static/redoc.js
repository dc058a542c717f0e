"use strict";
// Redoc, from this server alone.
Redoc.init(
  new URL("openapi.json", document.baseURI).href, // beside this page, whatever prefix a proxy puts before both
  {
    nativeScrollbars: true,
    expandResponses: "200",
    jsonSampleExpandLevel: 4,
    theme: { typography: { fontFamily: "system-ui, sans-serif", headings: { fontFamily: "system-ui, sans-serif" } } },
  },
  document.getElementById("redoc"),
);
