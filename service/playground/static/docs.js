"use strict";
// Swagger UI, from this server alone: no validator badge, no fonts, no scripts from elsewhere.
SwaggerUIBundle({
  url: new URL("openapi.json", document.baseURI).href, // beside this page, whatever prefix a proxy puts before both
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis, SwaggerUIBundle.SwaggerUIStandalonePreset].filter(Boolean),
});
