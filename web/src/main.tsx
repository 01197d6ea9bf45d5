/** The pages begin here. */

import "./style/tokens.css";
import "./style/base.css";
import "./style/components.css";
import "./style/shell.css";
import { render } from "preact";
import { forgetWhatIsOver } from "./customer/orders";
import { begin, whenEnded } from "./session";
import { Shell } from "./Shell";
import { followTheme } from "./theme";
import { ceremonies } from "./worker/client";

followTheme();
const root = document.getElementById("root");
if (root) render(<Shell />, root);
whenEnded(() => ceremonies.forget());
whenEnded(() => forgetWhatIsOver());
void begin();
