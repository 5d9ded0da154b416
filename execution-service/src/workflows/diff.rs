//! What differs between two definitions, by stage and by field.
//!
//! Pure, and about JSON alone: a definition is an object with a list `stages` of objects that have a `name`; what else is in
//! it, and in a stage, is compared whatever it is. Stages are known by their names, several of one name by their order. Equal
//! definitions give an empty diff, and the same two always the same one.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

/// How many fields and stages are told in all.
const MOST_TOLD: usize = 1_000;
/// How much is told in all, as JSON.
const MOST_BYTES: usize = 1024 * 1024;
/// The member that holds the stages.
const STAGES: &str = "stages";
/// The member that names a stage.
const NAME: &str = "name";

/// What differs between an older and a newer definition.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Diff {
    /// What is not of a stage, by path.
    pub(crate) fields: Vec<Field>,
    /// Stages that differ or moved: the newer definition's in their order, then the removed ones in theirs.
    pub(crate) stages: Vec<Stage>,
    /// Whether there was too much to tell.
    pub(crate) truncated: bool,
}

/// A field that differs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Field {
    /// Where it stands.
    pub(crate) path: String,
    /// What the older one says, if anything.
    pub(crate) old: Option<Value>,
    /// What the newer one says, if anything.
    pub(crate) new: Option<Value>,
}

/// A stage that differs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stage {
    /// Its name.
    pub(crate) name: String,
    /// Its place in the older one, from 0.
    pub(crate) from: Option<usize>,
    /// Its place in the newer one, from 0.
    pub(crate) to: Option<usize>,
    /// Whether it stands elsewhere among the stages that both have.
    pub(crate) moved: bool,
    /// What differs in it.
    pub(crate) fields: Vec<Field>,
}

/// What differs between the two.
pub(crate) fn diff(old: &Value, new: &Value) -> Diff {
    let mut teller = Teller::default();
    let (before, after) = (stages(old), stages(new));
    let mut fields = Vec::new();
    teller.members(&mut fields, "", members(old), members(new), Some(STAGES));
    let mut told = Vec::new();
    let places: BTreeMap<_, _> = before.iter().enumerate().map(|(i, it)| (it.key(), i)).collect();
    let found: Vec<_> = after.iter().map(|it| places.get(&it.key()).copied()).collect();
    let in_place = longest_rise(&found.iter().copied().flatten().collect::<Vec<_>>());
    for (place, (stage, from)) in after.iter().zip(&found).enumerate() {
        let moved = from.is_some_and(|it| !in_place.contains(&it));
        let mut fields = Vec::new();
        let earlier = from.map(|it| before[it].members);
        teller.members(&mut fields, "", earlier, Some(stage.members), Some(NAME));
        if from.is_none() || moved || !fields.is_empty() {
            teller.stage(&mut told, stage.name, *from, Some(place), moved, fields);
        }
    }
    let kept: BTreeSet<_> = found.into_iter().flatten().collect();
    for (place, stage) in before.iter().enumerate().filter(|(it, _)| !kept.contains(it)) {
        let mut fields = Vec::new();
        teller.members(&mut fields, "", Some(stage.members), None, Some(NAME));
        teller.stage(&mut told, stage.name, Some(place), None, false, fields);
    }
    Diff {
        fields,
        stages: told,
        truncated: teller.truncated,
    }
}

/// A stage with how many of its name come before it.
struct Named<'a> {
    name: &'a str,
    nth: usize,
    members: &'a Map<String, Value>,
}

impl<'a> Named<'a> {
    fn key(&self) -> (&'a str, usize) {
        (self.name, self.nth)
    }
}

fn stages(definition: &Value) -> Vec<Named<'_>> {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let all = definition.get(STAGES).and_then(Value::as_array);
    let all = all.into_iter().flatten().filter_map(Value::as_object);
    all.map(|members| {
        let name = members.get(NAME).and_then(Value::as_str).unwrap_or_default();
        let count = seen.entry(name).or_default();
        *count += 1;
        let nth = *count;
        Named { name, nth, members }
    })
    .collect()
}

fn members(value: &Value) -> Option<&Map<String, Value>> {
    value.as_object()
}

/// Tells what differs until it is too much.
#[derive(Default)]
struct Teller {
    told: usize,
    bytes: usize,
    truncated: bool,
}

impl Teller {
    /// Compares the members of two objects, all but one.
    fn members(
        &mut self,
        fields: &mut Vec<Field>,
        path: &str,
        old: Option<&Map<String, Value>>,
        new: Option<&Map<String, Value>>,
        except: Option<&str>,
    ) {
        let names: BTreeSet<_> = old.into_iter().chain(new).flat_map(Map::keys).collect();
        for name in names.into_iter().filter(|it| Some(it.as_str()) != except) {
            let (old, new) = (old.and_then(|it| it.get(name)), new.and_then(|it| it.get(name)));
            self.value(fields, &below(path, name), old, new);
        }
    }

    fn value(&mut self, fields: &mut Vec<Field>, path: &str, old: Option<&Value>, new: Option<&Value>) {
        match (old, new) {
            _ if old == new || self.truncated => {}
            (Some(Value::Object(old)), Some(Value::Object(new))) => {
                self.members(fields, path, Some(old), Some(new), None);
            }
            (Some(Value::Array(old)), Some(Value::Array(new))) if old.len() == new.len() => {
                for (i, (old, new)) in old.iter().zip(new).enumerate() {
                    self.value(fields, &format!("{path}[{i}]"), Some(old), Some(new));
                }
            }
            _ => {
                let size = |it: Option<&Value>| it.map_or(0, |it| it.to_string().len());
                if self.has_room(path.len() + size(old) + size(new)) {
                    fields.push(Field {
                        path: path.to_owned(),
                        old: old.cloned(),
                        new: new.cloned(),
                    });
                }
            }
        }
    }

    fn stage(
        &mut self,
        stages: &mut Vec<Stage>,
        name: &str,
        from: Option<usize>,
        to: Option<usize>,
        moved: bool,
        fields: Vec<Field>,
    ) {
        // One whose fields are told already is told, though there is no room for more.
        if self.has_room(name.len()) || !fields.is_empty() {
            stages.push(Stage {
                name: name.to_owned(),
                from,
                to,
                moved,
                fields,
            });
        }
    }

    fn has_room(&mut self, bytes: usize) -> bool {
        self.told += 1;
        self.bytes += bytes;
        self.truncated |= self.told > MOST_TOLD || self.bytes > MOST_BYTES;
        !self.truncated
    }
}

/// The path of a member; a name that would be mistaken for a path is quoted.
fn below(path: &str, name: &str) -> String {
    let plain = !name.is_empty() && name.chars().all(|it| it.is_alphanumeric() || "_-$".contains(it));
    match (path, plain) {
        ("", true) => name.to_owned(),
        (_, true) => format!("{path}.{name}"),
        (_, false) => format!("{path}[{}]", Value::from(name)),
    }
}

/// The members of a longest rising subsequence: what stays in place when the rest is moved.
fn longest_rise(numbers: &[usize]) -> BTreeSet<usize> {
    // By length less one, the place of the smallest number that a rise of this length ends with.
    let mut ends: Vec<usize> = Vec::new();
    let mut before = vec![None; numbers.len()];
    for (place, number) in numbers.iter().enumerate() {
        let length = ends.partition_point(|it| numbers[*it] < *number);
        before[place] = length.checked_sub(1).map(|it| ends[it]);
        if length == ends.len() {
            ends.push(place);
        } else {
            ends[length] = place;
        }
    }
    let mut rise = BTreeSet::new();
    let mut next = ends.last().copied();
    while let Some(place) = next {
        rise.insert(numbers[place]);
        next = before[place];
    }
    rise
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn paths(fields: &[Field]) -> Vec<&str> {
        fields.iter().map(|it| it.path.as_str()).collect()
    }

    #[test]
    fn equal_definitions_have_an_empty_diff() {
        let one = json!({"stages": [{"name": "a", "llm": {"prompt": "x"}}], "transition_limit": 3});
        assert_eq!(diff(&one, &one), Diff::default());
    }

    #[test]
    fn stages_are_added_removed_moved_and_changed() {
        let stage = |name: &str, prompt: &str| json!({"name": name, "llm": {"prompt": prompt, "model": "m"}});
        let old = json!({"stages": [stage("a", "1"), stage("b", "2"), stage("c", "3"), stage("d", "4")]});
        let new = json!({"stages": [stage("d", "4"), stage("a", "1"), stage("x", "5"), stage("c", "changed")]});
        let told = diff(&old, &new).stages;
        let summary: Vec<_> = told
            .iter()
            .map(|it| (it.name.as_str(), it.from, it.to, it.moved, paths(&it.fields)))
            .collect();
        assert_eq!(
            summary,
            [
                ("d", Some(3), Some(0), true, vec![]),
                ("x", None, Some(2), false, vec!["llm"]),
                ("c", Some(2), Some(3), false, vec!["llm.prompt"]),
                ("b", Some(1), None, false, vec!["llm"]),
            ]
        );
        let prompt = &told[2].fields[0];
        assert_eq!((&prompt.old, &prompt.new), (&Some(json!("3")), &Some(json!("changed"))));
    }

    #[test]
    fn fields_are_told_by_path_with_what_was_and_what_is() {
        let old = json!({"stages": [], "transition_limit": 3, "input_schema":
            {"required": ["a", "b"], "enum": [1], "properties": {"a b": {"type": "string"}}}});
        let new = json!({"stages": [], "input_schema":
            {"required": ["a", "c"], "enum": [1, 2], "properties": {"a b": {"type": "number"}}}});
        let told = diff(&old, &new).fields;
        assert_eq!(
            paths(&told),
            [
                "input_schema.enum",
                "input_schema.properties[\"a b\"].type",
                "input_schema.required[1]",
                "transition_limit"
            ]
        );
        assert_eq!((&told[3].old, &told[3].new), (&Some(json!(3)), &None));
    }

    #[test]
    fn stages_of_one_name_are_told_apart_by_their_order() {
        let old = json!({"stages": [{"name": "a", "n": 1}, {"name": "a", "n": 2}]});
        let new = json!({"stages": [{"name": "a", "n": 1}, {"name": "a", "n": 3}, {"name": "a", "n": 4}]});
        let told = diff(&old, &new).stages;
        let places: Vec<_> = told.iter().map(|it| (it.from, it.to)).collect();
        assert_eq!(places, [(Some(1), Some(1)), (None, Some(2))]);
    }

    #[test]
    fn a_diff_is_bounded_and_says_so() {
        let many: Map<String, Value> = (0..2 * MOST_TOLD).map(|i| (format!("k{i}"), json!(i))).collect();
        let told = diff(&json!({"stages": []}), &Value::Object(many));
        assert!(told.truncated && told.fields.len() == MOST_TOLD);
        let long = json!({"stages": [], "a": "x".repeat(MOST_BYTES), "b": 1});
        let told = diff(&json!({"stages": []}), &long);
        assert!(told.truncated && told.fields.is_empty());
    }

    #[test]
    fn only_what_has_to_move_is_moved() {
        assert_eq!(longest_rise(&[3, 0, 1, 2]), BTreeSet::from([0, 1, 2]));
        assert_eq!(longest_rise(&[1, 2, 0]), BTreeSet::from([1, 2]));
        assert_eq!(longest_rise(&[]), BTreeSet::new());
    }
}
