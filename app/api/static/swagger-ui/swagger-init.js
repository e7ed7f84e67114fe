// Ours: starts Swagger UI. A file of its own, so that the page needs no inline script.
window.onload = () => {
  const root = document.getElementById("swagger-ui");
  window.ui = SwaggerUIBundle({
    url: root.dataset.openapiUrl,
    dom_id: "#swagger-ui",
    deepLinking: true,
    validatorUrl: null, // nothing is sent to anybody else
    presets: [SwaggerUIBundle.presets.apis],
    layout: "BaseLayout",
  });
};
