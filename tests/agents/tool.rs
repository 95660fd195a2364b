//! The four tools: where they are, and how a job points each of them at the scripted server.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::alone::tell;

/// The variable that holds the key in the environment of the engine.
pub const KEY_VARIABLE: &str = "ENGINE_CANARY";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    Aider,
    Codex,
    Claude,
    Gemini,
}

/// How the tool shows who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Login {
    Key,
    /// Claude tells when a quota is open again only to subscribers.
    Subscription,
}

impl Tool {
    pub const ALL: [Self; 4] = [Self::Aider, Self::Codex, Self::Claude, Self::Gemini];

    pub fn name(self) -> &'static str {
        match self {
            Self::Aider => "aider",
            Self::Codex => "codex",
            Self::Claude => "claude",
            Self::Gemini => "gemini",
        }
    }

    /// The directory of its program, below what `install.sh` made.
    pub fn bin(self) -> PathBuf {
        let installed = std::env::var_os("ENGINE_AGENTS_DIR").filter(|dir| !dir.is_empty());
        let dir = installed
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/agents"), PathBuf::from);
        dir.join(if self == Self::Aider { "aider/bin" } else { "npm/node_modules/.bin" })
    }

    /// Whether it is installed; if it is not, that is told, or a failure where it is required.
    pub fn is_there(self) -> bool {
        let is_there = self.bin().join(self.name()).exists();
        if !is_there {
            let text = format!("not run: {} is not installed (tests/agents/install.sh)", self.name());
            let required = std::env::var_os("ENGINE_AGENTS_REQUIRED").is_some_and(|value| value == "1");
            assert!(!required, "{text}");
            tell(&text);
        }
        is_there
    }

    /// The model that jobs ask for, and that the settings name for jobs that ask for none.
    pub fn model(self) -> &'static str {
        match self {
            Self::Aider => "openai/mock",
            Self::Codex => "gpt-5.5",
            Self::Claude => "claude-sonnet-4-5",
            Self::Gemini => "gemini-2.5-flash",
        }
    }

    /// Writes the settings that cannot be variables into its home, and gives the variables of the job.
    pub fn point_at(self, url: &str, home: &Path, login: Login) -> Value {
        let key = json!({"from_env": KEY_VARIABLE});
        let path = |name: &str| home.join(name).to_str().unwrap().to_owned();
        let mut env = Map::from_iter([("HOME".to_owned(), json!(home))]);
        let own = match (self, login) {
            (Self::Aider, _) => {
                let model = json!({
                    "max_tokens": 128_000, "max_input_tokens": 128_000, "max_output_tokens": 16_000,
                    "input_cost_per_token": 3e-06, "output_cost_per_token": 1.5e-05,
                    "litellm_provider": "openai", "mode": "chat",
                });
                fill(&home.join("models.json"), &json!({self.model(): model}).to_string());
                json!({
                    "OPENAI_API_BASE": format!("{url}/v1"), "OPENAI_API_KEY": key,
                    "AIDER_MODEL_METADATA_FILE": path("models.json"), "AIDER_EDIT_FORMAT": "diff",
                    "AIDER_MAP_TOKENS": "0", "AIDER_MODEL": self.model(),
                })
            }
            (Self::Codex, _) => {
                let provider = format!(
                    "model = \"{}\"\nmodel_provider = \"mock\"\n[model_providers.mock]\nname = \"mock\"\nbase_url = \"{url}/v1\"\n\
                     env_key = \"MOCK_KEY\"\nwire_api = \"responses\"\n",
                    self.model()
                );
                fill(&home.join(".codex/config.toml"), &provider);
                json!({"CODEX_HOME": path(".codex"), "MOCK_KEY": key})
            }
            (Self::Claude, Login::Key) => json!({
                "ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": key, "CLAUDE_CONFIG_DIR": path(".claude"),
                "ANTHROPIC_MODEL": self.model(),
            }),
            (Self::Claude, Login::Subscription) => json!({
                "ANTHROPIC_BASE_URL": url, "CLAUDE_CODE_OAUTH_TOKEN": key, "CLAUDE_CONFIG_DIR": path(".claude"),
                "ANTHROPIC_MODEL": self.model(),
            }),
            (Self::Gemini, _) => {
                let settings = json!({"security": {"auth": {"selectedType": "gemini-api-key"}}});
                fill(&home.join(".gemini/settings.json"), &settings.to_string());
                json!({"GOOGLE_GEMINI_BASE_URL": url, "GEMINI_API_KEY": key, "GEMINI_MODEL": self.model()})
            }
        };
        env.extend(own.as_object().cloned().unwrap_or_default());
        Value::Object(env)
    }
}

/// Writes a file and the directories above it.
pub fn fill(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}
