//! Search: words in each language, typos, vectors, filters; and what workflows make of it.

use std::time::Duration;

use serde_json::{Value, json};
use studios_tests::{
    refusal::{assert_reason, fields},
    tenant::{Tenant, id},
    world::World,
};
use tonic::Code;

pub(super) const SEARCH: &str = "studios.core.v1.DocumentService/SearchChunks";
const CREATE: &str = "studios.core.v1.DocumentService/CreateDocument";
const UPDATE: &str = "studios.core.v1.DocumentService/UpdateDocument";
const GET: &str = "studios.core.v1.DocumentService/GetDocument";
const CLAIM: &str = "studios.core.v1.EmbeddingService/ClaimChunks";
const STORE: &str = "studios.core.v1.EmbeddingService/StoreVectors";
const MODEL: &str = "studios.execution.v1.ModelService/CreateModel";
const RULES: &str = "# Rules\n\n## Harbour\n\nShips report to the harbour office before they enter.\n\n## Fees\n\nThe fee depends \
on the length of the ship. Fees are paid before the ship leaves.\n\n## Light\n\nThe pier is lit at night.\n";
const HAFEN: &str = "Der Hafen ist jeden Tag von sechs Uhr morgens bis zehn Uhr abends geöffnet. Boote, die später ankommen, warten \
vor der Mole, bis das Tor wieder geöffnet wird. Die Gebühren richten sich nach der Länge des Schiffes.";

/// Makes a document and waits until it is processed.
async fn add(world: &World, it: &Tenant, document: Value, text: &str) -> Value {
    let mut wanted = json!({ "studioId": it.studio, "title": "Paper", "mimeType": "text/plain" });
    wanted
        .as_object_mut()
        .unwrap()
        .extend(document.as_object().unwrap().clone());
    let made = world
        .ok(CREATE, json!({ "document": wanted, "text": text }), &it.token)
        .await;
    let done = |it: &Value| it["status"] == "PROCESSING_STATUS_COMPLETED";
    world.until(GET, json!({ "id": made["id"] }), &it.token, done).await
}

pub(super) async fn search(world: &World, it: &Tenant, body: Value) -> Value {
    let mut wanted = json!({ "studioId": it.studio });
    wanted
        .as_object_mut()
        .unwrap()
        .extend(body.as_object().unwrap().clone());
    world.ok(SEARCH, wanted, &it.token).await
}

/// What was found, by the chunks' contents.
fn contents(found: &Value) -> Vec<&str> {
    let results = found["results"].as_array().unwrap();
    results
        .iter()
        .map(|it| it["chunk"]["content"].as_str().unwrap())
        .collect()
}

/// The documents of what was found.
fn documents(found: &Value) -> Vec<&str> {
    let results = found["results"].as_array().unwrap();
    results
        .iter()
        .map(|it| it["chunk"]["documentId"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn words_are_matched_by_the_rules_of_each_documents_language() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let german = add(&world, &it, json!({ "title": "Hafen" }), HAFEN).await;
    let french = add(
        &world,
        &it,
        json!({ "title": "Port", "language": "fr" }),
        "Les bateaux attendent.",
    )
    .await;
    let english = add(&world, &it, json!({ "title": "Harbour" }), "Ships wait.").await;
    let languages = [&german, &french, &english].map(|it| it["language"].as_str().unwrap());
    assert_eq!(languages, ["de", "fr", "en"], "found out, told, too short to tell");
    for (words, document) in [("Gebühr", &german), ("bateau", &french), ("waiting ship", &english)] {
        let found = search(&world, &it, json!({ "query": words })).await;
        assert_eq!(documents(&found), [document["id"].as_str().unwrap()], "{words}");
        let snippet = found["results"][0]["snippet"].as_str().unwrap();
        assert!(snippet.contains("<mark>"), "{words}: {snippet}");
    }
    let wrong = json!({ "document": { "studioId": it.studio, "title": "X", "mimeType": "text/plain", "language": "xx",
        "tags": [""] }, "text": "x" });
    let status = world.refused(CREATE, wrong, &it.token).await;
    assert_eq!(fields(&status), ["document.language", "document.tags[0]"]);
}

#[tokio::test]
async fn a_typo_finds_what_was_meant_and_is_told() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    it.add_document(&world, "Rules", RULES).await;
    let found = search(&world, &it, json!({ "query": "harbuor office" })).await;
    assert_eq!(found["correctedQuery"], "harbour office");
    assert_eq!(found["results"][0]["chunk"]["section"], "Rules > Harbour");
    let snippet = found["results"][0]["snippet"].as_str().unwrap();
    assert!(snippet.contains("<mark>harbour</mark>"), "{snippet}");
    let right = search(&world, &it, json!({ "query": "harbour office" })).await;
    assert_eq!((&right["correctedQuery"], contents(&right).len()), (&json!(""), 1));
    let nothing = search(&world, &it, json!({ "query": "zeppelin" })).await;
    assert_eq!(nothing, json!({ "results": [], "correctedQuery": "" }));
}

#[tokio::test]
async fn a_query_of_operators_quotes_and_stop_words_finds_what_it_says_or_nothing() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    it.add_document(&world, "Rules", RULES).await;
    for (query, count) in [
        ("\"paid before\"", 1),
        ("ship -fee", 1),
        ("pier or fee", 2),
        ("-harbour", 2),
        ("the of to", 0),
        ("' \\ : & | ! ( ) <->", 0),
    ] {
        for mode in ["MATCH_MODE_ALL", "MATCH_MODE_ANY"] {
            let found = search(&world, &it, json!({ "query": query, "matchMode": mode })).await;
            if mode == "MATCH_MODE_ALL" || count == 0 {
                assert_eq!(contents(&found).len(), count, "{query:?} {mode}: {found}");
            }
        }
    }
}

#[tokio::test]
async fn a_search_is_narrowed_by_type_tag_and_time() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let plain = add(
        &world,
        &it,
        json!({ "tags": ["fees", "2024", "fees"] }),
        "The berth is free.",
    )
    .await;
    assert_eq!(plain["tags"], json!(["2024", "fees"]), "each once, in order");
    let marked = add(
        &world,
        &it,
        json!({ "mimeType": "text/markdown", "tags": ["fees"] }),
        "The berth is taken.",
    )
    .await;
    let (plain, marked) = (id(&plain), id(&marked));
    let early = "2020-01-01T00:00:00Z";
    for (filter, expected) in [
        (json!({}), vec![&plain, &marked]),
        (json!({ "mimeTypes": ["text/markdown"] }), vec![&marked]),
        (
            json!({ "mimeTypes": ["text/markdown", "text/plain"] }),
            vec![&plain, &marked],
        ),
        (json!({ "tags": ["fees"] }), vec![&plain, &marked]),
        (json!({ "tags": ["fees", "2024"] }), vec![&plain]),
        (json!({ "tags": ["none"] }), vec![]),
        (
            json!({ "createdFrom": early, "updatedFrom": early }),
            vec![&plain, &marked],
        ),
        (json!({ "createdBefore": early }), vec![]),
        (json!({ "updatedBefore": early }), vec![]),
    ] {
        let found = search(&world, &it, json!({ "query": "berth", "filter": filter })).await;
        let mut seen = documents(&found);
        seen.sort_unstable();
        let mut expected = expected;
        expected.sort_unstable();
        assert_eq!(seen, expected, "{filter}");
    }
    let wrong = json!({ "studioId": it.studio, "query": "x", "filter": { "mimeTypes": ["image/png"] }, "mode": "SEARCH_MODE_VECTOR" });
    let status = world.refused(SEARCH, wrong, &it.token).await;
    assert_eq!(fields(&status), ["filter.mime_types[0]", "vector"]);
}

#[tokio::test]
async fn a_chunk_says_apart_what_it_repeats_and_is_found_for_its_own_words_alone() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let filler = "The tide table is read aloud every morning. ".repeat(34);
    let text = format!("# Log\n\n{filler}The albatross came back.\n\n{filler}\n");
    let document = it.add_document(&world, "Log", &text).await;
    let list = "studios.core.v1.DocumentService/ListChunks";
    let page = world.ok(list, json!({ "documentId": document }), &it.token).await;
    let chunks = page["chunks"].as_array().unwrap();
    assert_eq!((chunks.len(), &chunks[0]["overlap"]), (2, &json!("")));
    let overlap = chunks[1]["overlap"].as_str().unwrap();
    assert!(overlap.ends_with("The albatross came back."), "{overlap}");
    assert!(!chunks[1]["content"].as_str().unwrap().contains("albatross"));
    let found = search(&world, &it, json!({ "query": "albatross" })).await;
    assert_eq!(found["results"].as_array().unwrap().len(), 1);
    assert_eq!(found["results"][0]["chunk"]["index"], 0);
}

/// What a service alone is answered.
async fn alone(world: &World, method: &str, body: Value) -> Value {
    world.ok(method, body, &world.service_token(None)).await
}

fn claim(it: &Tenant, model: &str) -> Value {
    json!({ "models": [{ "companyId": it.company, "model": model }], "limit": 10 })
}

/// Vectors of two numbers: the chunks in their order point from the first to the second.
fn vectors(claimed: &Value) -> Value {
    let chunks = claimed["chunks"].as_array().unwrap();
    let vector = |(place, chunk): (usize, &Value)| json!({ "chunkId": chunk["chunkId"], "numbers": [1, place] });
    chunks.iter().enumerate().map(vector).collect()
}

#[tokio::test]
async fn vectors_are_handed_out_once_stored_and_found_by_whoever_may_read_their_chunks() {
    let world = World::start().await;
    vectors_go_round(&world).await;
}

/// Vectors from their making to their being replaced; returns whose they are.
pub(super) async fn vectors_go_round(world: &World) -> Tenant {
    let it = Tenant::with_studio(world).await;
    let other = Tenant::with_studio(world).await;
    other.add_document(world, "Theirs", RULES).await;
    let document = it.add_document(world, "Rules", RULES).await;

    let claimed = alone(world, CLAIM, claim(&it, "toy/2")).await;
    assert_eq!(
        (&claimed["companyId"], &claimed["documentId"]),
        (&json!(it.company), &json!(document))
    );
    assert_eq!(claimed["chunks"].as_array().unwrap().len(), 3);
    let text = claimed["chunks"][2]["text"].as_str().unwrap();
    assert_eq!(text, "Rules\nRules > Light\nThe pier is lit at night.");
    let leased = alone(world, CLAIM, claim(&it, "toy/2")).await;
    assert_eq!(leased["chunks"], json!([]), "somebody has them");
    let made = json!({ "documentId": document, "model": "toy/2", "vectors": vectors(&claimed) });
    alone(world, STORE, made.clone()).await;
    assert_eq!(alone(world, CLAIM, claim(&it, "toy/2")).await["chunks"], json!([]));

    let near = |numbers: [f64; 2]| json!({ "query": "x", "mode": "SEARCH_MODE_VECTOR", "vector": { "model": "toy/2", "numbers": numbers } });
    let found = search(world, &it, near([0.1, 1.0])).await;
    assert_eq!(found["results"][0]["chunk"]["section"], "Rules > Light");
    assert_eq!(found["results"].as_array().unwrap().len(), 3);
    let away = search(world, &it, near([-1.0, 0.0])).await;
    assert_eq!(away["results"], json!([]), "none points its way");
    let elsewhere = search(world, &other, near([0.1, 1.0])).await;
    assert_eq!(elsewhere["results"], json!([]));
    let mut unknown = near([0.1, 1.0]);
    unknown["vector"]["model"] = json!("toy/3");
    assert_eq!(search(world, &it, unknown).await["results"], json!([]));
    let fused =
        json!({ "query": "fee", "mode": "SEARCH_MODE_FUSED", "vector": { "model": "toy/2", "numbers": [0.0, 1.0] } });
    let found = search(world, &it, fused).await;
    assert_eq!(
        found["results"][0]["chunk"]["section"], "Rules > Fees",
        "second by its vector, and the only one by words"
    );

    // Another model's are made anew; what replaced chunks had is gone, and what comes late for them is passed over.
    let again = alone(world, CLAIM, claim(&it, "toy/3")).await;
    assert_eq!(again["chunks"].as_array().unwrap().len(), 3);
    let reprocess = json!({ "id": document });
    world
        .ok(
            "studios.core.v1.DocumentService/ReprocessDocument",
            reprocess.clone(),
            &it.token,
        )
        .await;
    let list = "studios.core.v1.DocumentService/ListChunks";
    let first = claimed["chunks"][0]["chunkId"].clone();
    let replaced = |it: &Value| it["chunks"][0]["id"] != first;
    world
        .until(list, json!({ "documentId": document }), &it.token, replaced)
        .await;
    alone(world, STORE, made).await;
    let found = search(world, &it, near([0.1, 1.0])).await;
    assert_eq!(found["results"], json!([]));
    assert_eq!(
        alone(world, CLAIM, claim(&it, "toy/2")).await["chunks"]
            .as_array()
            .unwrap()
            .len(),
        3
    );

    // A text that the model refuses is not handed out for it again.
    let refused = json!({ "documentId": document, "model": "toy/2", "refusal": "too rude" });
    alone(world, STORE, refused).await;
    assert_eq!(alone(world, CLAIM, claim(&it, "toy/2")).await["chunks"], json!([]));
    let status = world.refused(CLAIM, claim(&it, "toy/2"), &it.token).await;
    assert_eq!(status.code(), Code::Unauthenticated);
    let status = world
        .refused(CLAIM, claim(&it, "toy/2"), &world.service_token(Some(&it.user)))
        .await;
    assert_eq!(status.code(), Code::Unauthenticated);
    it
}

#[tokio::test]
async fn a_document_in_another_language_is_cut_anew() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let document = add(&world, &it, json!({ "language": "en" }), HAFEN).await;
    let fee = search(&world, &it, json!({ "query": "Gebühr", "limit": 1 })).await;
    assert_ne!(
        fee["correctedQuery"], "",
        "by the rules of English it is a typo of another word"
    );
    let update = async |document: Value, mask: &str| {
        let changed = json!({ "document": document, "updateMask": mask });
        world.ok(UPDATE, changed, &it.token).await
    };
    let told = update(json!({ "id": document["id"], "language": "de" }), "language").await;
    assert_eq!(
        (&told["language"], &told["status"]),
        (&json!("de"), &json!("PROCESSING_STATUS_PENDING"))
    );
    let found = |it: &Value| it["correctedQuery"] == "" && !it["results"].as_array().unwrap().is_empty();
    let wanted = json!({ "studioId": it.studio, "query": "Gebühr", "limit": 1 });
    world.until(SEARCH, wanted, &it.token, found).await;

    // Told to be of none, it is found out again.
    let wrong = update(json!({ "id": document["id"], "language": "fr" }), "language").await;
    assert_eq!(wrong["language"], "fr");
    update(json!({ "id": document["id"] }), "language").await;
    let is_german = |it: &Value| it["language"] == "de" && it["status"] == "PROCESSING_STATUS_COMPLETED";
    world
        .until(GET, json!({ "id": document["id"] }), &it.token, is_german)
        .await;
}

#[tokio::test]
async fn a_private_document_is_not_found_by_its_vectors_either() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let colleague = Tenant::user(&world).await;
    it.add_member(&world, &colleague, "ROLE_ADMIN").await;
    add(
        &world,
        &it,
        json!({ "accessLevel": "ACCESS_LEVEL_PRIVATE" }),
        "The secret berth.",
    )
    .await;
    let claimed = alone(&world, CLAIM, claim(&it, "toy/2")).await;
    let made = json!({ "documentId": claimed["documentId"], "model": "toy/2", "vectors": vectors(&claimed) });
    alone(&world, STORE, made).await;
    let body = json!({ "studioId": it.studio, "query": "x", "mode": "SEARCH_MODE_VECTOR",
        "vector": { "model": "toy/2", "numbers": [1.0, 0.0] } });
    let own = world.ok(SEARCH, body.clone(), &it.token).await;
    assert_eq!(own["results"].as_array().unwrap().len(), 1);
    let others = world.ok(SEARCH, body, &colleague.token).await;
    assert_eq!(others["results"], json!([]));
}

#[tokio::test]
async fn the_rarer_a_word_the_more_it_counts_and_what_one_may_not_read_counts_for_nothing() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let colleague = Tenant::user(&world).await;
    it.add_member(&world, &colleague, "ROLE_MEMBER").await;
    for text in [
        "A ship at the pier.",
        "A ship at sea.",
        "A ship in the dock.",
        "The lamp of a crane.",
    ] {
        add(&world, &it, json!({}), text).await;
    }
    let body =
        json!({ "studioId": it.studio, "query": "which ship has a lamp at the pier", "matchMode": "MATCH_MODE_ANY" });
    let found = world.ok(SEARCH, body.clone(), &colleague.token).await;
    assert_eq!(
        contents(&found)[..2],
        ["A ship at the pier.", "The lamp of a crane."],
        "{found}"
    );
    assert_eq!(contents(&found).len(), 4);
    // To others, what a private document is full of is as rare as before.
    for text in ["A lamp.", "No lamp, no pier.", "The pier's lamp."] {
        add(&world, &it, json!({ "accessLevel": "ACCESS_LEVEL_PRIVATE" }), text).await;
    }
    assert_eq!(world.ok(SEARCH, body.clone(), &colleague.token).await, found);
    let own = world.ok(SEARCH, body, &it.token).await;
    assert_eq!(contents(&own).len(), 7);
}

fn embedding_model(it: &Tenant, name: &str) -> Value {
    json!({ "model": { "companyId": it.company, "name": name, "provider": "offline", "providerModel": name,
        "contextLength": 8192, "enabled": true, "embedsDocuments": true } })
}

/// Waits until all documents of a company have vectors of a model.
async fn embedded(world: &World, it: &Tenant, model: &str) {
    let admin = world.admin().await;
    let all = async {
        loop {
            let lacking: i64 = sqlx::query_scalar(
                "select count(*) from core.embeddings where company_id = $1::uuid and model is distinct from $2",
            )
            .bind(&it.company)
            .bind(model)
            .fetch_one(&admin)
            .await
            .unwrap();
            if lacking == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(studios_tests::world::PATIENCE, all)
        .await
        .expect("vectors are made");
}

fn retrieving(query: &str, more: &Value) -> Value {
    let mut retrieval = json!({ "query": query, "limit": 2 });
    retrieval
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    json!([{ "name": "find", "retrieve": { "retrieval": retrieval } }])
}

/// Runs a workflow of such a stage; its attempt and itself.
async fn run(world: &World, it: &Tenant, name: &str, stages: Value) -> (Value, Value) {
    let workflow = it.add_workflow(world, name, stages).await;
    let execution = it.start(world, &workflow, json!({})).await;
    let ended = world.finished(&execution, &it.token).await;
    let list = "studios.execution.v1.ExecutionService/ListAttempts";
    let attempts = world.ok(list, json!({ "executionId": execution }), &it.token).await;
    (attempts["attempts"][0].clone(), ended)
}

#[tokio::test]
async fn the_companys_model_makes_vectors_in_the_background_and_stages_find_by_them() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let document = it.add_document(&world, "Rules", RULES).await;
    let by_vector = retrieving(
        "the lighted pier at night and the ship",
        &json!({ "mode": "RETRIEVAL_MODE_VECTOR" }),
    );
    let (attempt, _) = run(&world, &it, "Before", by_vector.clone()).await;
    assert_eq!(attempt["failure"]["reason"], "no_embedding_model", "{attempt}");

    let first = world.ok(MODEL, embedding_model(&it, "hashing-1"), &it.token).await;
    assert_eq!(first["embedsDocuments"], true);
    embedded(&world, &it, "offline/hashing-1").await;
    let (attempt, ended) = run(&world, &it, "After", by_vector).await;
    assert_eq!(ended["status"], "EXECUTION_STATUS_COMPLETED", "{ended}");
    let sources = attempt["sources"].as_array().unwrap();
    let numbers: Vec<_> = sources.iter().map(|it| it["number"].as_i64().unwrap()).collect();
    assert_eq!(numbers, [1, 2]);
    assert_eq!(
        (&sources[0]["section"], &sources[0]["documentId"]),
        (&json!("Rules > Light"), &json!(document))
    );
    assert_eq!(
        sources[0]["contentSha256"], "52da95b36942e25aee2f13d90a57086946faa6a5b2429717cb3c6e48c9f1d45c",
        "of \"The pier is lit at night.\""
    );

    // The one that is told to last makes them, and all are made anew.
    let second = world.ok(MODEL, embedding_model(&it, "hashing-2"), &it.token).await;
    assert_eq!(second["embedsDocuments"], true);
    let get = "studios.execution.v1.ModelService/GetModel";
    let first = world.ok(get, json!({ "id": first["id"] }), &it.token).await;
    assert_eq!(first["embedsDocuments"], false);
    embedded(&world, &it, "offline/hashing-2").await;
    let models: Vec<String> =
        sqlx::query_scalar("select distinct model from core.chunk_vectors where company_id = $1::uuid")
            .bind(&it.company)
            .fetch_all(&world.admin().await)
            .await
            .unwrap();
    assert_eq!(models, ["offline/hashing-2"]);
    let tokens: i64 = sqlx::query_scalar("select sum(tokens)::bigint from execution.spend where company_id = $1::uuid")
        .bind(&it.company)
        .fetch_one(&world.admin().await)
        .await
        .unwrap();
    assert!(tokens > 30, "what vectors take is counted: {tokens}");
}

#[tokio::test]
async fn a_stages_search_is_narrowed_and_what_is_wrong_with_it_is_named() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    add(
        &world,
        &it,
        json!({ "title": "Old", "tags": ["old"] }),
        "The berth is free.",
    )
    .await;
    let new = add(
        &world,
        &it,
        json!({ "title": "New", "tags": ["new"] }),
        "The berth is taken.",
    )
    .await;
    let narrowed =
        json!({ "tags": ["new"], "mimeTypes": ["text/plain"], "maxAge": "3600s", "mode": "RETRIEVAL_MODE_TEXT" });
    let (attempt, _) = run(&world, &it, "Narrow", retrieving("berth", &narrowed)).await;
    let sources = attempt["sources"].as_array().unwrap();
    assert_eq!(sources.len(), 1, "{attempt}");
    assert_eq!(sources[0]["documentId"], new["id"]);

    let wrong = json!({ "tags": [" "], "mimeTypes": ["image/png"], "maxAge": "0s" });
    let body = json!({ "workflow": { "studioId": it.studio, "name": "Wrong", "draft": { "stages": retrieving("berth", &wrong) } } });
    let workflow = world
        .ok("studios.execution.v1.WorkflowService/CreateWorkflow", body, &it.token)
        .await;
    let publish = "studios.execution.v1.WorkflowService/PublishWorkflow";
    let status = world.refused(publish, json!({ "id": workflow["id"] }), &it.token).await;
    let mut named = fields(&status);
    named.retain(|it| it.contains("retrieval"));
    let at = "draft.stages[0].retrieve.retrieval";
    assert_eq!(
        named,
        ["max_age", "mime_types[0]", "tags[0]"].map(|it| format!("{at}.{it}"))
    );
}

#[tokio::test]
async fn vectors_of_more_chunks_than_are_compared_are_refused_where_they_are_asked_for() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let document = it.add_document(&world, "Rules", RULES).await;
    sqlx::query("update core.documents set chunk_count = 50001 where id = $1::uuid")
        .bind(&document)
        .execute(&world.admin().await)
        .await
        .unwrap();
    let body = |mode: &str| json!({ "studioId": it.studio, "query": "fee", "mode": mode, "vector": { "model": "toy/2", "numbers": [1.0] } });
    let status = world.refused(SEARCH, body("SEARCH_MODE_FUSED"), &it.token).await;
    assert_reason(&status, Code::FailedPrecondition, "TOO_MANY_CHUNKS");
    let found = world.ok(SEARCH, body("SEARCH_MODE_AUTOMATIC"), &it.token).await;
    assert_eq!(found["results"].as_array().unwrap().len(), 1);
}
