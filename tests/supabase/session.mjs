// A user of supabase-js, who signs up, in, and out. Prints what he saw as one line of JSON.
import { createClient } from "@supabase/supabase-js";

const [url, email, password] = process.argv.slice(2);
const options = { auth: { persistSession: false, autoRefreshToken: false, detectSessionInUrl: false } };
const client = () => createClient(url, "an-anon-key", options);
const failure = (error) => error && { name: error.name, code: error.code, status: error.status, message: error.message };
const seen = {};

const first = client();
const up = await first.auth.signUp({ email, password, options: { data: { full_name: "Ada Lovelace" } } });
seen.signUp = { error: failure(up.error), user: up.data.user, session: !!up.data.session };
const twice = await client().auth.signUp({ email, password });
seen.twice = failure(twice.error);
const weak = await client().auth.signUp({ email: `weak-${email}`, password: "short" });
seen.weak = failure(weak.error);

const second = client();
const wrong = await second.auth.signInWithPassword({ email, password: "not the password" });
seen.wrong = failure(wrong.error);
const signedIn = await second.auth.signInWithPassword({ email, password });
seen.signIn = { error: failure(signedIn.error), expiresIn: signedIn.data.session?.expires_in, token: signedIn.data.session?.access_token };
const before = signedIn.data.session?.refresh_token;
const refreshed = await second.auth.refreshSession();
seen.refresh = { error: failure(refreshed.error), isNew: refreshed.data.session?.refresh_token !== before };
const user = await second.auth.getUser();
seen.user = { error: failure(user.error), id: user.data.user?.id, email: user.data.user?.email };
const claims = await second.auth.getClaims();
seen.claims = { error: failure(claims.error), sub: claims.data?.claims?.sub, alg: claims.data?.header?.alg };
const updated = await second.auth.updateUser({ data: { city: "London" } });
seen.update = { error: failure(updated.error), metadata: updated.data.user?.user_metadata };
const unsure = await second.auth.updateUser({ password: "another long password" });
seen.unsure = failure(unsure.error);

const token = refreshed.data.session?.access_token;
const out = await second.auth.signOut({ scope: "local" });
seen.signOut = failure(out.error);
const gone = await client().auth.getUser(token);
seen.gone = failure(gone.error);
const other = await first.auth.getUser();
seen.other = failure(other.error);
await first.auth.signOut();
const late = await client().auth.refreshSession({ refresh_token: before });
seen.late = failure(late.error);
const again = await client().auth.resetPasswordForEmail(email);
seen.recover = failure(again.error);
console.log(JSON.stringify(seen));
