// aimock with what the tests ask it, by the prompt's text. Says its address in a line, and ends when its input does.
import { LLMock } from "@copilotkit/aimock";

const mock = new LLMock({ port: 0, strict: true });
const on = (userMessage, response, more = {}) => mock.addFixture({ match: { userMessage }, response, ...more });
const long = "this answer is long enough to be cut off somewhere in its middle";

on("say hello", { content: "Hello from aimock." });
on("as json", { content: '{"port":"Antwerp"}' });
on("limit", { error: { message: "Rate limited", type: "rate_limit_error", code: "rate_limit_exceeded" }, status: 429 });
on("overload", { error: { message: "Overloaded", type: "overloaded_error" }, status: 529 });
on("disconnect", { content: long }, { disconnectAfterMs: 60, latency: 50, chunkSize: 4 });
on("malformed", { content: "x" }, { chaos: { malformedRate: 1 } });

await mock.start();
console.log(mock.url);
process.stdin.resume();
process.stdin.on("end", async () => {
  await mock.stop();
  process.exit(0);
});
