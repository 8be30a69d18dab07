// Run by `kaminari plugin build`: APP.js, folder of the contract, world, where the component goes.
import { writeFile } from "node:fs/promises";
import { componentize } from "@bytecodealliance/componentize-js";

const [sourcePath, witPath, worldName, out] = process.argv.slice(2);
// The sandbox has none of these.
const disableFeatures = ["http", "fetch-event", "random", "clocks"];
const { component } = await componentize({ sourcePath, witPath, worldName, disableFeatures });
await writeFile(out, component);
