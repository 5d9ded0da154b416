// Calls the gateway as a web page does, and tells the test what it saw. The contracts come as descriptors, so nothing is generated.

import { createFileRegistry, fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";

const config = await (await fetch("/config.json")).json();
const contracts = new Uint8Array(await (await fetch("/contracts.binpb")).arrayBuffer());
const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, contracts));
const transport = createGrpcWebTransport({ baseUrl: config.gateway });
const client = (service) => createClient(registry.getService(service), transport);
const users = client("studios.core.v1.UserService");
const companies = client("studios.core.v1.CompanyService");
const executions = client("studios.execution.v1.ExecutionService");
const headers = { authorization: `Bearer ${config.token}` };

/** How a call fails: its code's name, its message and the details as they came. */
async function failure(call) {
  try {
    await call();
    return { code: "none" };
  } catch (error) {
    const it = ConnectError.from(error);
    const details = it.details.map(({ type, value }) => ({ type, text: new TextDecoder().decode(value) }));
    return { code: Code[it.code], message: it.rawMessage, details };
  }
}

async function unary() {
  const profile = await users.getProfile({}, { headers });
  return { email: profile.email };
}

/** An execution's events with the time of their coming, until it ends. */
async function stream() {
  const run = await executions.startExecution({ workflowId: config.workflow }, { headers });
  const begun = performance.now();
  const events = [];
  for await (const it of executions.watchExecution({ id: run.id }, { headers })) {
    events.push({ event: it.event.case, after_ms: performance.now() - begun });
  }
  return { events };
}

/** A stream that its reader gives up after the first event. */
async function abort() {
  const controller = new AbortController();
  return failure(async () => {
    const options = { headers, signal: controller.signal };
    for await (const _event of executions.watchExecution({ id: config.held }, options)) {
      controller.abort();
    }
  });
}

async function deadline() {
  return failure(async () => {
    for await (const _event of executions.watchExecution({ id: config.held }, { headers, timeoutMs: 700 })) {
      // It goes on until the deadline.
    }
  });
}

const seen = {};
const steps = {
  unary,
  stream,
  abort,
  deadline,
  details: () => failure(() => companies.createCompany({ company: { name: "x" } }, { headers })),
  nobody: () => failure(() => users.getProfile({})),
};
for (const [name, step] of Object.entries(steps)) {
  try {
    seen[name] = await step();
  } catch (error) {
    seen[name] = { error: String(error) };
  }
}
await fetch("/seen", { method: "POST", body: JSON.stringify(seen) });
