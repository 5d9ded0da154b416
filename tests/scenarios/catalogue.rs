//! The platform's templates on their samples, through the real services and the offline model: what the inputs say stands in the
//! right places of the outputs.

use serde_json::{Value, json};
use studios_tests::{
    papers::{DOCX, PDF, XLSX, docx, pdf, xlsx},
    tenant::{Tenant, id},
    world::World,
};

use super::templates::{call, has, platforms, run};

/// Runs one of the platform's on its sample, with these inputs in place of the sample's, and returns its last stage's output.
async fn tried(world: &World, it: &Tenant, name: &str, inputs: Value) -> Value {
    let template = platforms(world, it, name).await;
    let mut given = template["version"]["sampleInput"].clone();
    for (name, value) in inputs.as_object().unwrap() {
        given[name] = value.clone();
    }
    let id = id(&template);
    let started = call(world, it, "RunTemplate", run(it, &id, &given)).await;
    assert_eq!(started["templateId"], id, "{name}");
    let ended = world.finished(&self::id(&started), &it.token).await;
    assert_eq!(ended["status"], "EXECUTION_STATUS_COMPLETED", "{name}: {ended}");
    assert_eq!(
        (&ended["templateId"], &ended["templateVersion"]),
        (&template["id"], &template["newestVersion"])
    );
    let outputs = ended["outputs"].as_object().unwrap();
    assert_eq!(outputs.len(), 1, "{name}");
    outputs.values().next().unwrap().clone()
}

const RETURNS: &str = "# Returns\n\nThe returns desk takes parcels back. A parcel may be sent back within 30 days of its arrival. \
The sender pays the postage of a return. The head of the warehouse decides about late returns.\n\n## Fees\n\nA damaged parcel costs 12 EUR. \
The fee ends on 1 June 2026.\n";
const WEEK: &str = "# Minutes of Monday\n\nThe team finished the new loading plan. Two lorries were late on Tuesday. The dock will close on 14 March 2026.\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_catalogue_reads_texts_into_the_right_fields() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let none = json!({});

    let invoice = tried(&world, &it, "Read an invoice", none.clone()).await;
    let expected = json!({ "invoice_number": "INV-20417", "supplier": "Harbour Paper Supplies Ltd", "invoice_date": "2026-02-11",
        "due_date": "2026-03-13", "net_amount": 1472.0, "tax_amount": 279.68, "total_amount": 1751.68, "currency": "EUR" });
    assert_eq!(invoice, expected);

    let mail = tried(&world, &it, "Triage a support mail", none.clone()).await;
    assert_eq!(
        (&mail["category"], &mail["priority"], &mail["code"]),
        (&json!("delivery"), &json!("high"), &json!("ORD-58213"))
    );
    assert!(has(&mail["main_point"], "send a replacement"), "{mail}");

    let meeting = tried(&world, &it, "Meeting notes to tasks", none.clone()).await;
    let tasks: Vec<_> = meeting["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (&it["owner"], &it["due_date"]))
        .collect();
    let of = |owner: &str, due: &str| (json!(owner), json!(due));
    let expected = [
        of("The shift lead", "13 March 2026"),
        of("The facility manager", "20 March 2026"),
        of("The transport desk", "16 March 2026"),
    ];
    for (owner, due) in &expected {
        assert!(tasks.contains(&(owner, due)), "{meeting}");
    }
    assert_eq!(tasks.len(), 3, "{meeting}");
    assert!(
        has(&meeting["decisions"], "move the packing line on 28 March 2026"),
        "{meeting}"
    );
    assert!(!has(&meeting["decisions"], "scanners"), "{meeting}");

    let call = tried(&world, &it, "Sales call follow-up", none.clone()).await;
    assert_eq!(
        (&call["budget"], &call["decision_date"]),
        (&json!("24,000 EUR"), &json!("27 March 2026"))
    );
    assert!(has(&call["requirements"], "ready by five in the morning"), "{call}");
    assert!(has(&call["concerns"], "will not use another app"), "{call}");
    assert!(
        has(&call["next_steps"], "The account manager") && has(&call["next_steps"], "20 March 2026"),
        "{call}"
    );

    let incident = tried(&world, &it, "Incident report", none.clone()).await;
    assert!(has(&incident["cause"], "certificate"), "{incident}");
    assert!(has(&incident["impact"], "130 of them"), "{incident}");
    let times: Vec<_> = incident["timeline"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["time"].as_str().unwrap())
        .collect();
    assert_eq!(times, ["10:12", "10:25", "10:59"]);
    assert!(has(&incident["actions"], "warn 30 days before"), "{incident}");

    let contract = tried(&world, &it, "Contract red flags", none).await;
    for (flag, said) in [
        ("automatic_renewal", "automatic renewal for a further 24 months"),
        ("unilateral_increase", "15 percent"),
        ("liability", "limited to the fees of one month"),
        ("termination", "is excluded"),
        ("penalty", "5,000 EUR"),
        ("personal_data", "European Economic Area"),
        ("governing_law", "provider's seat"),
    ] {
        assert!(has(&contract[flag], said), "{flag}: {contract}");
    }
    assert_eq!(contract["exclusivity"], Value::Null, "it does not speak of that");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_catalogue_sorts_row_by_row() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let none = json!({});

    let cleaned = tried(&world, &it, "Clean a CSV column", none.clone()).await;
    let expected = [
        "Germany",
        "Germany",
        "Germany",
        "France",
        "France",
        "Netherlands",
        "Netherlands",
        "Portugal",
        "Portugal",
    ];
    assert_eq!(cleaned, json!(expected));
    let strange = json!({ "values": ["Gabon", "FRANCE"] });
    assert_eq!(
        tried(&world, &it, "Clean a CSV column", strange).await,
        json!(["unknown", "France"])
    );

    let feedback = tried(&world, &it, "Sort customer feedback", none.clone()).await;
    let rows: Vec<_> = feedback
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (it["theme"].as_str().unwrap(), it["sentiment"].as_str().unwrap()))
        .collect();
    assert_eq!(
        rows,
        [
            ("delivery", "negative"),
            ("price", "positive"),
            ("service", "positive"),
            ("quality", "negative")
        ]
    );
    assert!(has(&feedback[3]["quote"], "handle broke"), "{feedback}");

    let policies = tried(&world, &it, "Compare two policies", none.clone()).await;
    for (row, topic, before, after) in [
        (0, "working from home", "one day a week", "three days a week"),
        (1, "annual leave", "26 days", "28 days"),
        (2, "travel expenses", "30 days", "14 days"),
    ] {
        let row = &policies[row];
        assert_eq!(row["aspect"], topic);
        assert!(has(&row["old_rule"], before) && !has(&row["old_rule"], after), "{row}");
        assert!(has(&row["new_rule"], after) && !has(&row["new_rule"], before), "{row}");
    }

    let table = tried(&world, &it, "Competitor table", none).await;
    for (row, name, price, strength, weakness) in [
        (
            0,
            "Fjordline Tools",
            "129 EUR",
            "repair service in 40 towns",
            "weight of the drills",
        ),
        (1, "Kestrel Werk", "89 EUR", "low price", "guarantee of 12 months"),
    ] {
        let row = &table[row];
        assert_eq!((&row["name"], &row["price"]), (&json!(name), &json!(price)), "{row}");
        assert!(
            has(&row["strengths"], strength) && has(&row["weaknesses"], weakness),
            "{row}"
        );
        assert!(!has(&row["strengths"], weakness), "{row}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_catalogue_writes_from_facts_and_from_documents() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let returns = it.add_document(&world, "Returns", RETURNS).await;
    let week = it.add_document(&world, "Minutes", WEEK).await;
    let none = json!({});

    let brief = tried(&world, &it, "Campaign brief", none.clone()).await;
    for (heading, said) in [
        ("Objective", "4,000 Tidewell bottles"),
        ("Audience", "commuters between 25 and 45"),
        ("Promise", "never leaks"),
        ("Proof", "10,000 drops"),
        ("Offer", "second lid for free"),
        ("Budget", "18,000 EUR"),
        ("Timing", "From 4 May 2026 to 28 June 2026"),
    ] {
        assert!(section(&brief, heading).contains(said), "{heading}: {brief}");
    }

    let post = tried(&world, &it, "Job post", none).await;
    for (heading, said) in [
        ("Purpose", "plan the goods of two halls"),
        ("Tasks", "60 lorries a day"),
        ("Profile", "Three years in logistics"),
        ("Offer", "46,000 EUR"),
        ("Application", "jobs@example.com"),
    ] {
        assert!(section(&post, heading).contains(said), "{heading}: {post}");
    }

    let summary = tried(
        &world,
        &it,
        "Summarise documents for a role",
        json!({ "documents": [returns] }),
    )
    .await;
    assert!(has(&summary["key_points"], "within 30 days"), "{summary}");
    assert!(
        has(&summary["dates_and_figures"], "12 EUR") || has(&summary["dates_and_figures"], "1 June 2026"),
        "{summary}"
    );

    let report = tried(
        &world,
        &it,
        "Weekly report from documents",
        json!({ "documents": [week] }),
    )
    .await;
    for (heading, said) in [
        ("Achieved", "finished the new loading plan"),
        ("Problems", "Two lorries were late"),
        ("Next", "will close on 14 March 2026"),
    ] {
        assert!(section(&report, heading).contains(said), "{heading}: {report}");
    }

    let answer = tried(&world, &it, "Answer a question from documents", json!({})).await;
    let text = answer.as_str().unwrap();
    assert!(text.contains("within 30 days of its arrival. ["), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_catalogue_reads_uploaded_files() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;

    let body = r#"<w:p><w:pPr><w:pStyle w:val="h1"/></w:pPr><w:r><w:t>Returns</w:t></w:r></w:p>
        <w:p><w:r><w:t>A parcel may be sent back within 30 days of its arrival. The sender pays the postage of a return.</w:t></w:r></w:p>
        <w:p><w:r><w:t>The fee of 12 EUR ends on 1 June 2026.</w:t></w:r></w:p>"#;
    let returns = it.add_paper(&world, "Returns.docx", DOCX, &docx(body)).await;
    let minutes = pdf(
        &[
            "The team finished the new loading plan.",
            "Two lorries were late on Tuesday. The dock will close on 14 March 2026.",
        ],
        false,
    );
    let minutes = it.add_paper(&world, "Minutes.pdf", PDF, &minutes).await;
    let rows = r#"<row r="1"><c r="A1" t="inlineStr"><is><t>Day</t></is></c><c r="B1" t="inlineStr"><is><t>Note</t></is></c></row>
        <row r="2"><c r="A2" t="inlineStr"><is><t>Friday</t></is></c><c r="B2" t="inlineStr"><is><t>The crane was broken for 4 hours.</t></is></c></row>"#;
    let week = it.add_paper(&world, "Week.xlsx", XLSX, &xlsx("Week 11", rows)).await;
    let tariff = "Service,Price
Express parcel,A night delivery costs 31 EUR
";
    let tariff = it.add_paper(&world, "Tariff.csv", "text/csv", tariff.as_bytes()).await;

    let documents = json!({ "documents": [returns, tariff] });
    let summary = tried(&world, &it, "Summarise documents for a role", documents).await;
    assert!(has(&summary["key_points"], "within 30 days"), "{summary}");
    assert!(has(&summary["key_points"], "31 EUR"), "{summary}");
    assert!(has(&summary["dates_and_figures"], "1 June 2026"), "{summary}");

    let documents = json!({ "documents": [minutes, week] });
    let report = tried(&world, &it, "Weekly report from documents", documents).await;
    assert!(
        section(&report, "Achieved").contains("finished the new loading plan"),
        "{report}"
    );
    let problems = section(&report, "Problems");
    assert!(
        problems.contains("Two lorries were late") && problems.contains("broken for 4 hours"),
        "{report}"
    );
    assert!(section(&report, "Next").contains("14 March 2026"), "{report}");

    let answer = tried(&world, &it, "Answer a question from documents", json!({})).await;
    let text = answer.as_str().unwrap();
    assert!(text.contains("within 30 days of its arrival. ["), "{text}");
    let question = json!({ "question": "What does a night delivery cost?" });
    let answer = tried(&world, &it, "Answer a question from documents", question).await;
    assert!(has(&answer, "31 EUR"), "{answer}");
}

/// What stands under a heading.
fn section<'a>(text: &'a Value, heading: &str) -> &'a str {
    let text = text.as_str().unwrap_or_else(|| panic!("no text: {text}"));
    let (_, after) = text
        .split_once(&format!("## {heading}\n"))
        .unwrap_or_else(|| panic!("no {heading}: {text}"));
    after.split("\n## ").next().unwrap_or(after)
}
