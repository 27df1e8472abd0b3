/** pasta: networking for a network namespace. */
import { readPastaCommandLine } from "@passt/cli"
import { runProgram } from "@passt/program"
import { prepare } from "./start.ts"

// The descriptors of the command's pipe and namespace end with the process: nothing is waited for.
process.exit(runProgram(readPastaCommandLine, prepare))
