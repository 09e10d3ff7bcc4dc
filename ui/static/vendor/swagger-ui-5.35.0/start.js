// GenPlat's own few lines: an inline script would not pass the Content-Security-Policy.
const target = document.getElementById("swagger-ui");
SwaggerUIBundle({
  url: target.dataset.url,
  domNode: target,
  deepLinking: true,
  validatorUrl: null,
  tryItOutEnabled: true,
});
