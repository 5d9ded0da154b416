//! The workflows that benchmarks run. Each stage that calls a model has a prompt that is rendered from what came before and a
//! regular expression that the answer must match.

use studios_proto::execution::{
    Definition, LlmStage, ManualCheck, RegexCheck, Route, Stage, Validation, WaitStage, stage::Kind, validation::Check,
};

use super::rig::PROVIDER;

/// The model whose answers have 8 KB; the stub knows it by its name upstream.
pub(super) const LARGE_MODEL: &str = "stub-8kb";
/// The model whose streamed answer takes a few seconds, a piece at a time.
pub(super) const HELD_MODEL: &str = "stub-held";
/// How many attempts a run of [`three`] records.
pub(super) const STAGES: u32 = 3;

/// Three model stages, each of which is given the answer before.
pub(super) fn three(model: &str) -> Definition {
    let stages = [
        llm(
            "outline",
            model,
            "Outline in three points: {{ topic }}.",
            ("topic", "inputs.topic"),
        ),
        llm(
            "draft",
            model,
            "Write a paragraph from this outline:\n{{ outline }}",
            ("outline", "stages.outline.output"),
        ),
        llm(
            "review",
            model,
            "Say what is missing in this paragraph:\n{{ draft }}",
            ("draft", "stages.draft.output"),
        ),
    ];
    Definition {
        stages: stages.into(),
        ..Definition::default()
    }
}

/// The three, and so many further ones behind them.
pub(super) fn longer_by(further: usize) -> Definition {
    let mut definition = three(PROVIDER);
    for number in 0..further {
        let path = format!("stages.{}.output", definition.stages[definition.stages.len() - 1].name);
        let name = format!("further_{number}");
        let prompt = "Go on from here:\n{{ before }}";
        definition.stages.push(llm(&name, PROVIDER, prompt, ("before", &path)));
    }
    definition
}

/// Two model stages in turns until there were so many, an even number.
pub(super) fn in_turns(stages: usize) -> Definition {
    let mut write = llm(
        "write",
        PROVIDER,
        "Write again on {{ topic }}.",
        ("topic", "inputs.topic"),
    );
    write.next_on_pass = "criticise".into();
    let mut criticise = llm(
        "criticise",
        PROVIDER,
        "What is wrong with this?\n{{ text }}",
        ("text", "stages.write.output"),
    );
    criticise.next_on_pass = "write".into();
    criticise.routes_on_pass = vec![Route {
        when: format!("visit >= {}", stages / 2),
        to: "end".into(),
    }];
    Definition {
        stages: vec![write, criticise],
        transition_limit: 10_000,
        ..Definition::default()
    }
}

/// One model stage whose output a person decides on.
pub(super) fn asking() -> Definition {
    let mut stage = llm(
        ASKING_STAGE,
        PROVIDER,
        "Outline in three points: {{ topic }}.",
        ("topic", "inputs.topic"),
    );
    stage.validation = Some(Validation {
        check: Some(Check::Manual(ManualCheck::default())),
    });
    Definition {
        stages: vec![stage],
        ..Definition::default()
    }
}

/// The stage of [`asking`].
pub(super) const ASKING_STAGE: &str = "outline";

/// One stage that waits until the time `inputs.until`.
pub(super) fn pausing() -> Definition {
    let wait = WaitStage {
        until_path: "inputs.until".into(),
        ..WaitStage::default()
    };
    let stage = Stage {
        name: "pause".into(),
        kind: Some(Kind::Wait(wait)),
        ..Stage::default()
    };
    Definition {
        stages: vec![stage],
        ..Definition::default()
    }
}

fn llm(name: &str, model: &str, prompt: &str, (variable, path): (&str, &str)) -> Stage {
    Stage {
        name: name.into(),
        kind: Some(Kind::Llm(LlmStage {
            model: model.into(),
            prompt: prompt.into(),
            ..LlmStage::default()
        })),
        input_mapping: [(variable.to_owned(), path.to_owned())].into(),
        validation: Some(Validation {
            check: Some(Check::Regex(RegexCheck {
                pattern: r"\AOK: [a-z ]+".into(),
            })),
        }),
        ..Stage::default()
    }
}
