/** passt: networking for a virtual machine. */
import { readCommandLine } from "@passt/cli"
import { runProgram } from "@passt/program"
import { prepare } from "./start.ts"

process.exitCode = runProgram(readCommandLine, prepare)
