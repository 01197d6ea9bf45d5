/** The pages begin here. */

import "./style/tokens.css";
import "./style/base.css";
import "./style/components.css";
import "./style/shell.css";
import { render } from "preact";
import { begin } from "./session";
import { Shell } from "./Shell";
import { followTheme } from "./theme";

followTheme();
const root = document.getElementById("root");
if (root) render(<Shell />, root);
void begin();
