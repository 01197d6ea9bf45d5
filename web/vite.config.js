import { defineConfig } from "vite";

// Names are stable, so that what is committed changes only where the sources did; the server tells versions by ETag.
const names = {
  entryFileNames: "[name].js",
  chunkFileNames: ({ facadeModuleId, name }) =>
    facadeModuleId?.includes("/src/admin/") ? "admin.js" : `${name.replace("uPlot.esm", "uplot")}.js`,
  assetFileNames: ({ names: [name] }) => (name === "routes.css" ? "admin.css" : name),
};

export default defineConfig({
  root: import.meta.dirname ?? new URL(".", import.meta.url).pathname,
  esbuild: { jsx: "automatic", jsxImportSource: "preact", legalComments: "none" },
  build: {
    outDir: "../fortress/web/static",
    emptyOutDir: true,
    target: "es2022",
    cssTarget: ["chrome123", "firefox128", "safari17.5"],
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    rollupOptions: { input: { app: "index.html" }, output: names },
  },
  worker: { format: "es", rollupOptions: { output: { ...names, entryFileNames: "worker.js" } } },
  server: { port: 7690, proxy: { "/api": { target: "http://localhost:7680", ws: true } } },
});
