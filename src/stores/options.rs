//! `storage_options` of a target: the words of the `object_store` crate, as in other tools for Delta tables.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use object_store::RetryConfig;
use object_store::aws::AmazonS3ConfigKey;
use object_store::azure::AzureConfigKey;
use object_store::gcp::GoogleConfigKey;

use crate::names::nearest;

/// Options that the crate has no word for.
const OWN: [&str; 4] = ["profile", "aws_profile", "max_retries", "retry_timeout"];

/// What people look for when they mistype one.
const COMMON: &[&str] = &[
    "region",
    "endpoint",
    "allow_http",
    "access_key_id",
    "secret_access_key",
    "session_token",
    "profile",
    "virtual_hosted_style_request",
    "skip_signature",
    "account_name",
    "account_key",
    "sas_key",
    "client_id",
    "client_secret",
    "tenant_id",
    "use_emulator",
    "use_azure_cli",
    "azure_endpoint",
    "service_account",
    "service_account_key",
    "application_credentials",
    "google_base_url",
    "timeout",
    "connect_timeout",
    "proxy_url",
    "max_retries",
    "retry_timeout",
    "sse_kms_key_id",
    "server_side_encryption",
];

/// Options by name. They may be secrets: nothing prints them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct StorageOptions(BTreeMap<String, String>);

impl fmt::Debug for StorageOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl<const N: usize> From<[(String, String); N]> for StorageOptions {
    fn from(options: [(String, String); N]) -> Self {
        options.into_iter().collect()
    }
}

impl FromIterator<(String, String)> for StorageOptions {
    fn from_iter<T: IntoIterator<Item = (String, String)>>(options: T) -> Self {
        Self(options.into_iter().map(|(key, value)| (key.to_ascii_lowercase(), value)).collect())
    }
}

impl StorageOptions {
    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The same for the same options, and says nothing of them.
    pub(super) fn fingerprint(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for (key, value) in &self.0 {
            hasher.update(&(key.len() as u64).to_le_bytes()).update(key.as_bytes());
            hasher.update(&(value.len() as u64).to_le_bytes()).update(value.as_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }

    /// Those that a kind of store has.
    pub(super) fn known<K: FromStr>(&self) -> impl Iterator<Item = (K, &str)> {
        self.0.iter().filter_map(|(key, value)| Some((key.parse().ok()?, value.as_str())))
    }
}

/// Why a name is none of an option; `None` if it is one of some store.
pub fn unknown_option(name: &str) -> Option<String> {
    let lower = name.to_ascii_lowercase();
    let is_known = OWN.contains(&lower.as_str())
        || AmazonS3ConfigKey::from_str(&lower).is_ok()
        || AzureConfigKey::from_str(&lower).is_ok()
        || GoogleConfigKey::from_str(&lower).is_ok();
    if is_known {
        return None;
    }
    let hint = nearest(&lower, COMMON.iter().copied()).map(|near| format!(", did you mean `{near}`?"));
    Some(format!("`{name}` is no option of a store{}", hint.unwrap_or_default()))
}

/// Whether the value of an option lets somebody in.
pub fn may_hold_a_secret(name: &str) -> bool {
    const PARTS: [&str; 9] = [
        "secret",
        "token",
        "password",
        "account_key",
        "access_key",
        "sas",
        "service_account_key",
        "master_key",
        "sse_customer_key",
    ];
    // Where a secret is, and who asks for it, is none.
    const PLAIN: [&str; 4] = ["file", "access_key_id", "uri", "endpoint"];
    let name = name.to_ascii_lowercase();
    PARTS.iter().any(|part| name.contains(part)) && !PLAIN.iter().any(|part| name.ends_with(part))
}

/// The options that are ours.
pub(super) struct Own<'a>(&'a StorageOptions);

impl<'a> Own<'a> {
    pub(super) fn of(options: &'a StorageOptions) -> Self {
        Self(options)
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        self.0.0.get(name).map(String::as_str)
    }

    /// The profile of AWS's configuration files.
    pub(super) fn profile(&self) -> Option<&'a str> {
        self.get("aws_profile").or_else(|| self.get("profile"))
    }

    /// How requests are tried again: with pauses that grow, by chance.
    pub(super) fn retry(&self, most: usize, timeout: Duration) -> RetryConfig {
        let seconds = self.get("retry_timeout").and_then(|text| text.trim_end_matches('s').parse().ok());
        RetryConfig {
            max_retries: self.get("max_retries").and_then(|text| text.parse().ok()).unwrap_or(most),
            retry_timeout: seconds.map_or(timeout, Duration::from_secs),
            ..RetryConfig::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_stores_and_nothing_prints_a_value() {
        for name in ["region", "AWS_REGION", "endpoint", "allow_http", "account_name", "service_account", "max_retries"]
        {
            assert_eq!(unknown_option(name), None, "{name}");
        }
        assert_eq!(
            unknown_option("secret_acces_key").unwrap(),
            "`secret_acces_key` is no option of a store, did you mean `secret_access_key`?"
        );
        let options = StorageOptions::from([("Secret_Access_Key".to_owned(), "hush".to_owned())]);
        assert_eq!(format!("{options:?}"), "{\"secret_access_key\"}");
    }

    #[test]
    fn secrets_are_told_by_their_names() {
        for name in
            ["aws_secret_access_key", "session_token", "account_key", "sas_key", "client_secret", "service_account_key"]
        {
            assert!(may_hold_a_secret(name), "{name}");
        }
        for name in
            ["region", "access_key_id", "web_identity_token_file", "endpoint", "account_name", "service_account"]
        {
            assert!(!may_hold_a_secret(name), "{name}");
        }
    }
}
