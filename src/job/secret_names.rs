//! Which environment variables hold a secret, by their names.
//!
//! Pure. A guess that rather hides too much: a user that knows better names the variable in a manifest or takes it by
//! reference.

/// A name with one of these in it is that of a secret.
const WORDS: [&str; 7] = ["KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "CREDENTIAL"];

/// A name that ends with one of these words is that of a secret: `PASS` alone is a part of `ASKPASS` and `BYPASS`.
const LAST_WORDS: [&str; 2] = ["PASS", "PWD"];

/// Words of which a secret's word is a part by accident.
const ORDINARY: [&str; 11] = [
    // Names the setting, as `GIT_CONFIG_VALUE_0` holds its value.
    "GIT_CONFIG_KEY",
    "KEYBOARD",
    "KEYCLOAK",
    "KEYMAP",
    "KEYRING",
    "KEYSPACE",
    "KEYWORD",
    "HOTKEY",
    "MONKEY",
    "TURKEY",
    "TOKENIZER",
];

/// The names of variables that hold an address, which may have a password in it, end with one of these.
const ADDRESSES: [&str; 3] = ["URL", "URI", "DSN"];

/// The part of a variable's value that is a secret by the variable's name: all of it, or the password in an address.
#[must_use]
pub(crate) fn secret_part<'v>(name: &[u8], value: &'v [u8]) -> Option<&'v [u8]> {
    let name = without_ordinary_words(&name.to_ascii_uppercase());
    if looks_secret(&name, value) {
        return Some(value);
    }
    ADDRESSES.iter().any(|word| ends_with_word(&name, word)).then(|| password(value)).flatten()
}

fn looks_secret(name: &[u8], value: &[u8]) -> bool {
    // Both are also used for what says where the secret is: `GOOGLE_APPLICATION_CREDENTIALS`, `LAUNCH_PWD`.
    let may_be_a_path = |word: &&str| *word == "CREDENTIAL" || LAST_WORDS.contains(word);
    let is_path = value.starts_with(b"/") || value.starts_with(b"~/") || value.starts_with(b"./");
    let inside = WORDS.iter().filter(|word| position(name, word.as_bytes()).is_some());
    // `PWD` and `OLDPWD` themselves are where a shell is.
    let last = LAST_WORDS.iter().filter(|word| ends_with_word(name, word) && name != b"PWD");
    inside.chain(last).any(|word| !(is_path && may_be_a_path(word)))
}

/// The password of `scheme://user:password@host`, as it is written there.
fn password(value: &[u8]) -> Option<&[u8]> {
    let authority = value.get(position(value, b"://")? + 3..)?;
    let end = authority.iter().position(|byte| b"/?#".contains(byte)).unwrap_or(authority.len());
    let authority = authority.get(..end)?;
    let user = authority.get(..authority.iter().rposition(|byte| *byte == b'@')?)?;
    let password = user.get(user.iter().position(|byte| *byte == b':')? + 1..)?;
    (!password.is_empty()).then_some(password)
}

/// A part of an address with its percent signs decoded; none without any.
#[must_use]
pub(crate) fn percent_decoded(text: &[u8]) -> Option<Vec<u8>> {
    if !text.contains(&b'%') {
        return None;
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind.get(..2).and_then(|digits| str::from_utf8(digits).ok());
        let byte = digits.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match byte.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => {
                decoded.push(byte);
                rest = behind.get(2..).unwrap_or_default();
            }
            None => {
                decoded.push(*first);
                rest = behind;
            }
        }
    }
    Some(decoded)
}

fn position(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

fn ends_with_word(name: &[u8], word: &str) -> bool {
    name.strip_suffix(word.as_bytes())
        .is_some_and(|before| !before.last().is_some_and(u8::is_ascii_alphabetic))
}

/// Blanks the ordinary words of a name; one that is glued to another word, as in `COMMONKEY`, is none.
fn without_ordinary_words(name: &[u8]) -> Vec<u8> {
    let mut left = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some(first) = rest.first() {
        let begins_word = !left.last().is_some_and(u8::is_ascii_alphabetic);
        match ORDINARY.iter().find(|word| begins_word && rest.starts_with(word.as_bytes())) {
            Some(word) => {
                left.push(b' ');
                rest = rest.get(word.len()..).unwrap_or_default();
            }
            None => {
                left.push(*first);
                rest = rest.get(1..).unwrap_or_default();
            }
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret<'v>(name: &str, value: &'v str) -> Option<&'v str> {
        secret_part(name.as_bytes(), value.as_bytes()).map(|part| str::from_utf8(part).unwrap())
    }

    #[test]
    fn names_of_secrets_are_known_however_they_are_written() {
        for name in [
            "OPENAI_API_KEY",
            "apiKey",
            "COMMONKEY",
            "KEY",
            "my-token",
            "GITHUB_TOKEN",
            "AWS_SECRET_ACCESS_KEY",
            "PGPASSWORD",
            "HTPASSWD",
            "SIGNING_PASSPHRASE",
            "AZURE_CREDENTIALS",
            "DB_PASS",
            "PASS",
            "MYSQL_PWD",
            "KEYCLOAK_CLIENT_SECRET",
            "KEYRING_PASSWORD",
            "MONKEY_API_KEY",
        ] {
            assert_eq!(secret(name, "a value"), Some("a value"), "{name}");
        }
    }

    #[test]
    fn ordinary_names_and_paths_are_no_secrets() {
        for (name, value) in [
            ("KEYBOARD", "pc105-de"),
            ("XKB_KEYMAP", "us-intl"),
            ("MONKEY", "capuchin"),
            ("GNOME_KEYRING_CONTROL", "/run/user/1000/keyring"),
            ("KEYCLOAK_URL", "https://sso.example.org"),
            ("TOKENIZERS_PARALLELISM", "warning"),
            ("GIT_ASKPASS", "/usr/bin/askpass"),
            ("SSH_ASKPASS", "ksshaskpass"),
            ("BYPASS", "everything"),
            ("SSH_AUTH_SOCK", "/tmp/agent.1"),
            ("XDG_SESSION_ID", "session-1"),
            ("PWD", "somewhere"),
            ("OLDPWD", "elsewhere"),
            ("INIT_PWD", "/home/somebody"),
            ("GOOGLE_APPLICATION_CREDENTIALS", "/etc/credentials.json"),
            ("COMPASS", "northwest"),
            ("GIT_CONFIG_KEY_0", "safe.directory"),
        ] {
            assert_eq!(secret(name, value), None, "{name}");
        }
    }

    #[test]
    fn of_an_address_the_password_alone_is_a_secret() {
        for (value, want) in [
            ("postgres://app:s3cr%40t-pw@db:5432/app?x=1", Some("s3cr%40t-pw")),
            ("redis://:onlypass@host", Some("onlypass")),
            ("amqp://u:a:b@c@host/vhost", Some("a:b@c")),
            ("https://example.org/a:b@c", None),
            ("https://example.org?next=u:p@h", None),
            ("https://user@example.org", None),
            ("https://user:@example.org", None),
            ("host:5432", None),
            ("://", None),
            ("", None),
        ] {
            for name in ["DATABASE_URL", "url", "SENTRY_DSN", "MONGO_URI"] {
                assert_eq!(secret(name, value), want, "{name}={value}");
            }
            assert_eq!(secret("CURL", value), None);
        }
        assert_eq!(secret("TOKEN_URL", "https://example.org"), Some("https://example.org"));
    }

    #[test]
    fn percent_signs_that_stand_for_nothing_stay() {
        for (text, want) in [("s3cr%40t%2f", "s3cr@t/"), ("100%", "100%"), ("%4", "%4"), ("%+4%zz", "%+4%zz")]
        {
            assert_eq!(percent_decoded(text.as_bytes()).unwrap(), want.as_bytes(), "{text}");
        }
        assert_eq!(percent_decoded(b"plain"), None);
    }
}
