const express = require("express");

const app = express();
app.get("/", (_, answer) => answer.send(`node says ${app.get("env")}\n`));
const server = app.listen(3000);
process.on("SIGTERM", () => server.close());
