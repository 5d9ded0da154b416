//! Configuration from a TOML file, the environment and flags, read whole before anything is started.
//!
//! A setting has a key like `database_url`. Flags win over the environment, that over the file; in the environment the
//! service's own prefix (`STUDIOS_CORE_DATABASE_URL`) wins over the shared one (`STUDIOS_DATABASE_URL`). Tables of the file
//! join their key to their entries' (`[openai] base_url` is `openai_base_url`). Every mistake is collected and told at
//! once, by key and variable; no value is ever repeated, for it may be a secret. An empty variable counts as not set.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    fmt::{self, Display},
    path::{Path, PathBuf},
    str::FromStr,
};

use figment::{
    Figment,
    providers::{Format, Toml},
    value::{Dict, Value},
};
use secrecy::SecretString;

/// Reads settings and collects what is wrong with them.
///
/// Required settings come as `Result`s, so that all can be read first: after [`finish`](Self::finish) none is an error.
///
/// ```
/// # use service_kit::config::{ConfigErrors, Reader};
/// # fn read(mut reader: Reader) -> Result<(std::net::SocketAddr, u32), ConfigErrors> {
/// let listen = reader.get("listen");
/// let connections = reader.get_or("database_connections", 10);
/// reader.finish()?;
/// Ok((listen?, connections))
/// # }
/// ```
pub struct Reader {
    prefixes: Vec<String>,
    flags: BTreeMap<String, String>,
    environment: BTreeMap<String, String>,
    path: PathBuf,
    file: BTreeMap<String, String>,
    known: BTreeSet<String>,
    mistakes: Vec<Mistake>,
}

impl Reader {
    /// Takes in all sources. Prefixes are for the environment, the service's own first; flags are pairs of key and value.
    pub fn load(prefixes: &[&str], file: Option<&Path>, flags: &[(String, String)]) -> Self {
        let environment = env::vars_os()
            .map(|(name, value)| {
                (
                    name.to_string_lossy().into_owned(),
                    value.to_string_lossy().into_owned(),
                )
            })
            .collect();
        Self::new(prefixes, file, environment, flags)
    }

    fn new(
        prefixes: &[&str],
        file: Option<&Path>,
        environment: BTreeMap<String, String>,
        flags: &[(String, String)],
    ) -> Self {
        let mut reader = Self {
            prefixes: prefixes.iter().map(ToString::to_string).collect(),
            flags: flags.iter().cloned().collect(),
            environment,
            path: PathBuf::new(),
            file: BTreeMap::new(),
            known: BTreeSet::new(),
            mistakes: Vec::new(),
        };
        if let Some(path) = file {
            path.clone_into(&mut reader.path);
            match Figment::from(Toml::file_exact(path)).extract::<Dict>() {
                Ok(table) => reader.flatten("", table),
                Err(error) => reader.mistakes.push(Mistake {
                    what: path.display().to_string(),
                    description: without_excerpt(&error.to_string()),
                }),
            }
        }
        reader
    }

    fn flatten(&mut self, prefix: &str, table: Dict) {
        for (name, value) in table {
            let key = format!("{prefix}{name}");
            match value {
                Value::Dict(_, table) => self.flatten(&format!("{key}_"), table),
                value => match text(&value) {
                    Some(text) => _ = self.file.insert(key, text),
                    None => self.mistakes.push(Mistake {
                        what: format!("{key} in {}", self.path.display()),
                        description: "must be a text, a number, a truth value or a list of these".into(),
                    }),
                },
            }
        }
    }

    /// A setting that must be there.
    ///
    /// # Errors
    /// [`Refused`] where it is missing or malformed; [`finish`](Self::finish) tells how.
    pub fn get<T: FromStr<Err: Display>>(&mut self, key: &str) -> Result<T, Refused> {
        match self.find(key) {
            Some(found) => self.parse(key, &found),
            None => Err(self.missing(key)),
        }
    }

    /// A setting with a default.
    pub fn get_or<T: FromStr<Err: Display>>(&mut self, key: &str, default: T) -> T {
        self.optional(key).unwrap_or(default)
    }

    /// A setting that may be left out.
    pub fn optional<T: FromStr<Err: Display>>(&mut self, key: &str) -> Option<T> {
        let found = self.find(key)?;
        self.parse(key, &found).ok()
    }

    /// A list, separated by commas or a list in the file; empty where it is left out.
    pub fn list<T: FromStr<Err: Display>>(&mut self, key: &str) -> Vec<T> {
        let Some(found) = self.find(key) else {
            return Vec::new();
        };
        let items = found.split(',').map(str::trim).filter(|it| !it.is_empty());
        items.filter_map(|item| self.parse(key, item).ok()).collect()
    }

    /// A secret that must be there.
    ///
    /// # Errors
    /// [`Refused`] where it is missing.
    pub fn secret(&mut self, key: &str) -> Result<SecretString, Refused> {
        self.optional_secret(key).ok_or_else(|| self.missing(key))
    }

    /// A secret that may be left out.
    pub fn optional_secret(&mut self, key: &str) -> Option<SecretString> {
        self.find(key).map(SecretString::from)
    }

    /// The names under which a table has an entry, in any source: `openai` for the table `providers` and its entry
    /// `base_url`, where `providers_openai_base_url` is set.
    pub fn names(&self, table: &str, entry: &str) -> BTreeSet<String> {
        let (before, after) = (format!("{table}_"), format!("_{entry}"));
        let variables = self
            .environment
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .filter_map(|(name, _)| {
                let key = self.prefixes.iter().find_map(|prefix| name.strip_prefix(prefix))?;
                Some(key.to_ascii_lowercase())
            });
        let keys = self.flags.keys().chain(self.file.keys()).cloned().chain(variables);
        keys.filter_map(|key| {
            let name = key.strip_prefix(&before)?.strip_suffix(&after)?;
            Some(name.to_owned()).filter(|it| !it.is_empty())
        })
        .collect()
    }

    /// Notes a mistake that only the service can see, like settings that exclude each other. The description must not
    /// repeat the value.
    pub fn reject(&mut self, key: &str, description: impl Display) -> Refused {
        let what = format!("{key} ({})", self.variables(key).join(" or "));
        self.mistakes.push(Mistake {
            what,
            description: description.to_string(),
        });
        Refused
    }

    /// Refuses the configuration if anything is wrong with it: what was noted so far, and settings that nobody has asked
    /// for in the file or the flags.
    ///
    /// # Errors
    /// All mistakes.
    pub fn finish(&mut self) -> Result<(), ConfigErrors> {
        let mut mistakes = std::mem::take(&mut self.mistakes);
        for (keys, place) in [
            (&self.file, self.path.display().to_string()),
            (&self.flags, "the flags".into()),
        ] {
            for key in keys.keys().filter(|key| !self.known.contains(*key)) {
                mistakes.push(Mistake {
                    what: format!("{key} in {place}"),
                    description: "is not a setting".into(),
                });
            }
        }
        if mistakes.is_empty() {
            Ok(())
        } else {
            Err(ConfigErrors(mistakes))
        }
    }

    fn find(&mut self, key: &str) -> Option<String> {
        self.known.insert(key.to_owned());
        let variables = self.variables(key);
        let environment = variables
            .iter()
            .find_map(|name| self.environment.get(name).filter(|value| !value.is_empty()));
        self.flags
            .get(key)
            .or(environment)
            .or_else(|| self.file.get(key))
            .cloned()
    }

    fn parse<T: FromStr<Err: Display>>(&mut self, key: &str, text: &str) -> Result<T, Refused> {
        text.parse().map_err(|error| self.reject(key, error))
    }

    fn missing(&mut self, key: &str) -> Refused {
        self.reject(key, "is missing")
    }

    fn variables(&self, key: &str) -> Vec<String> {
        self.prefixes
            .iter()
            .map(|prefix| prefix.clone() + &key.to_ascii_uppercase())
            .collect()
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(_, it) => Some(it.clone()),
        Value::Bool(_, it) => Some(it.to_string()),
        Value::Num(_, it) => Some(match it.to_i128() {
            Some(whole) => whole.to_string(),
            None => it.to_f64()?.to_string(),
        }),
        Value::Array(_, items) => {
            let items: Option<Vec<_>> = items.iter().map(text).collect();
            Some(items?.join(","))
        }
        Value::Char(..) | Value::Empty(..) | Value::Dict(..) => None,
    }
}

/// A parser's message without the line of the file that it shows, which may hold a secret.
fn without_excerpt(message: &str) -> String {
    let told: Vec<_> = message
        .lines()
        .filter(|line| !line.contains('|'))
        .map(str::trim)
        .collect();
    told.join(": ")
}

/// The setting is missing or malformed, and the reader has noted how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a setting was refused")]
pub struct Refused;

/// Everything that is wrong with the configuration, a line each.
#[derive(Debug)]
pub struct ConfigErrors(Vec<Mistake>);

#[derive(Debug)]
struct Mistake {
    what: String,
    description: String,
}

impl Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration has mistakes:")?;
        for Mistake { what, description } in &self.0 {
            write!(f, "\n  {what}: {description}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

impl From<Refused> for ConfigErrors {
    fn from(refused: Refused) -> Self {
        Self(vec![Mistake {
            what: "configuration".into(),
            description: refused.to_string(),
        }])
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use secrecy::ExposeSecret;

    use super::*;

    const PREFIXES: &[&str] = &["STUDIOS_CORE_", "STUDIOS_"];

    fn pairs(given: &[(&str, &str)]) -> Vec<(String, String)> {
        given
            .iter()
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .collect()
    }

    fn reader(file: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> Reader {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("core.toml");
        std::fs::write(&path, file).unwrap();
        Reader::new(
            PREFIXES,
            Some(&path),
            pairs(environment).into_iter().collect(),
            &pairs(flags),
        )
    }

    #[test]
    fn flags_win_over_the_environment_and_that_over_the_file() {
        let file = "a = 1\nb = 1\nc = 1\nd = 1";
        let environment = [
            ("STUDIOS_B", "2"),
            ("STUDIOS_C", "2"),
            ("STUDIOS_CORE_C", "3"),
            ("STUDIOS_D", "2"),
        ];
        let mut reader = reader(file, &environment, &[("d", "4")]);
        let read: Vec<u32> = ["a", "b", "c", "d"].map(|key| reader.get(key).unwrap()).into();
        assert_eq!(read, [1, 2, 3, 4]);
        reader.finish().unwrap();
    }

    #[test]
    fn every_mistake_is_told_at_once_by_key_and_variable() {
        let mut reader = reader(
            "lisen = 'x'\nport = 'many'",
            &[("STUDIOS_CORE_LISTEN", "nowhere")],
            &[("q", "1")],
        );
        assert!(reader.get::<SocketAddr>("listen").is_err());
        assert!(reader.secret("database_url").is_err());
        assert_eq!(reader.get_or("port", 7_u16), 7);
        assert_eq!(reader.optional::<bool>("reflection"), None);
        reader.reject("log", "excludes log_format");
        let told = reader.finish().unwrap_err().to_string();
        let lines: Vec<_> = told.lines().skip(1).map(str::trim).collect();
        assert_eq!(lines.len(), 6, "{told}");
        assert!(lines[0].starts_with("listen (STUDIOS_CORE_LISTEN or STUDIOS_LISTEN): "));
        assert_eq!(
            lines[1],
            "database_url (STUDIOS_CORE_DATABASE_URL or STUDIOS_DATABASE_URL): is missing"
        );
        assert!(lines[2].starts_with("port (STUDIOS_CORE_PORT or STUDIOS_PORT): "));
        assert_eq!(lines[3], "log (STUDIOS_CORE_LOG or STUDIOS_LOG): excludes log_format");
        assert!(lines[4].starts_with("lisen in ") && lines[4].ends_with("core.toml: is not a setting"));
        assert_eq!(lines[5], "q in the flags: is not a setting");
    }

    #[test]
    fn values_come_in_the_types_of_the_file() {
        let file = "n = 2.5\nyes = true\nlist = ['a', 'b']\n[openai]\nbase_url = 'u'";
        let mut reader = reader(file, &[("STUDIOS_OTHER", " c, d,"), ("STUDIOS_NAME", "123")], &[]);
        assert_eq!(reader.get::<f64>("n"), Ok(2.5));
        assert_eq!(reader.get::<bool>("yes"), Ok(true));
        assert_eq!(reader.list::<String>("list"), ["a", "b"]);
        assert_eq!(reader.list::<String>("other"), ["c", "d"]);
        assert_eq!(reader.list::<String>("none"), Vec::<String>::new());
        assert_eq!(reader.get::<String>("openai_base_url").unwrap(), "u");
        assert_eq!(reader.get::<String>("name").unwrap(), "123");
        reader.finish().unwrap();
    }

    #[test]
    fn a_table_of_tables_tells_its_names() {
        let file = "[providers.one]\nbase_url = 'a'\n[providers.two-b]\nbase_url = 'b'\napi_key = 'k'\n[other.x]\nbase_url = 'c'";
        let environment = [
            ("STUDIOS_CORE_PROVIDERS_THREE_BASE_URL", "d"),
            ("STUDIOS_PROVIDERS_EMPTY_BASE_URL", ""),
        ];
        let mut reader = reader(file, &environment, &[("providers_one_base_url", "e")]);
        let names = reader.names("providers", "base_url");
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["one", "three", "two-b"]);
        assert_eq!(reader.get::<String>("providers_one_base_url").unwrap(), "e");
        assert_eq!(reader.get::<String>("providers_two-b_api_key").unwrap(), "k");
    }

    #[test]
    fn an_empty_variable_is_not_set() {
        let mut reader = reader("a = 1", &[("STUDIOS_CORE_A", ""), ("STUDIOS_CORE_B", "")], &[]);
        assert_eq!(reader.get::<u32>("a"), Ok(1));
        assert_eq!(reader.optional::<u32>("b"), None);
        reader.finish().unwrap();
    }

    #[test]
    fn a_secret_is_read_and_never_shown() {
        let mut reader = reader("", &[("STUDIOS_KEY_RING", "hush")], &[]);
        let secret = reader.secret("key_ring").unwrap();
        assert_eq!(secret.expose_secret(), "hush");
        assert!(!format!("{secret:?}").contains("hush"));
    }

    #[test]
    fn a_broken_file_is_a_mistake_that_does_not_show_its_lines() {
        let mut reader = reader("database_url = \"postgres://core:hush@db\n", &[], &[]);
        assert!(reader.secret("database_url").is_err());
        let told = reader.finish().unwrap_err().to_string();
        assert!(told.contains("core.toml") && told.contains("line 1"), "{told}");
        assert!(!told.contains("hush"), "{told}");
        let missing = Reader::new(PREFIXES, Some(Path::new("/nowhere.toml")), BTreeMap::new(), &[]).finish();
        assert!(missing.unwrap_err().to_string().contains("/nowhere.toml"));
    }
}
