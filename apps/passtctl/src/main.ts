/** passtctl: shows and changes what a running passt or pasta does. */
import { run } from "./run.ts"

process.exit(run(process.argv.slice(2)))
