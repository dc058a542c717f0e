"use strict";
// Swagger UI, from this server alone: no validator badge, no fonts, no scripts from elsewhere.

// A file cannot be chosen by a page, so that a form that wants one could not be sent with one click. The sample image
// stands in for a file that was not chosen.
const sample = new URL("static/docs/scene.webp", document.baseURI);
const sampleName = "scene.webp";

async function sampleFile() {
  const answer = await fetch(sample);
  return new File([await answer.blob()], sampleName, { type: "image/webp" });
}

function contentType(request) {
  return request.headers["Content-Type"] || request.headers["content-type"] || "";
}

async function withSample(request) {
  if (request.loadSpec || request.method !== "POST") return request;
  if (request.body instanceof FormData) {
    if (!(request.body.get("image") instanceof File)) request.body.set("image", await sampleFile());
  } else if (contentType(request).startsWith("image/") && !(request.body instanceof File)) {
    request.body = await sampleFile();
    request.headers["Content-Type"] = request.body.type;
  }
  // The query holds the fields of a body that is the image alone; in other forms the body has them.
  if (!contentType(request).startsWith("image/")) request.url = request.url.split("?")[0];
  return request;
}

// What is missing or wrong the service says, with a pointer to the field: Swagger UI would only paint the file red.
const leaveChecksToTheService = {
  statePlugins: {
    oas3: {
      wrapSelectors: {
        validateBeforeExecute: () => () => true,
        validateShallowRequired: () => () => [],
      },
    },
  },
};

// Of a list of files it looks for a component that it does not have; its component of texts knows files.
const filesInLists = (system) => ({
  components: {
    JsonSchema_string_binary: (properties) =>
      system.React.createElement(system.getComponent("JsonSchema_string"), properties),
  },
});

// There is one server, the one that serves this page.
const withoutServers = { wrapComponents: { ServersContainer: () => () => null } };

// Swagger UI gives some of its elements no name, and some that scroll no way to be reached by the keyboard.
function nameElements() {
  const names = [
    ["select.examples-select-element", "Example"],
    ["textarea:not([aria-label])", "Body or parameter"],
    ["input[type=file]:not([aria-label])", "Image file"],
  ];
  for (const [selector, name] of names)
    for (const each of document.querySelectorAll(selector)) each.setAttribute("aria-label", name);
  for (const each of document.querySelectorAll("pre.microlight")) each.tabIndex = 0;
}

new MutationObserver(nameElements).observe(document.getElementById("swagger-ui"), { childList: true, subtree: true });

SwaggerUIBundle({
  url: new URL("openapi.json", document.baseURI).href, // beside this page, whatever prefix a proxy puts before both
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
  displayRequestDuration: true,
  requestInterceptor: withSample,
  presets: [SwaggerUIBundle.presets.apis, SwaggerUIBundle.SwaggerUIStandalonePreset].filter(Boolean),
  syntaxHighlight: { theme: "tomorrow-night" },
  plugins: [leaveChecksToTheService, filesInLists, withoutServers],
});
