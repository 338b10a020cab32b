import { render } from "preact";
import { tellDocument } from "./language";
import { Shell } from "./shell";
import { dress } from "./theme";

tellDocument();
dress();
render(<Shell />, document.getElementById("app") as HTMLElement);
