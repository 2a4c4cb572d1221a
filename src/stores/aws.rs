//! Credentials of AWS, found as its own tools find them: environment, profiles, single sign-on, web identity, roles of
//! containers and machines, programs.

use std::sync::Mutex;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_config::{BehaviorVersion, ConfigLoader, SdkConfig};
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use object_store::CredentialProvider;
use object_store::aws::AwsCredential;
use tokio::sync::OnceCell;

/// Credentials are asked for anew when they are valid no longer than this.
const EARLY: Duration = Duration::from_secs(300);

/// The chain of places where credentials may be; nothing is looked for before it is needed.
pub(super) struct Chain {
    profile: Option<String>,
    provider: OnceCell<SharedCredentialsProvider>,
    last: Mutex<Option<(Arc<AwsCredential>, Option<SystemTime>)>>,
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("credentials of AWS")
    }
}

fn loader(profile: Option<&str>) -> ConfigLoader {
    let loader = aws_config::defaults(BehaviorVersion::latest());
    match profile {
        Some(profile) => loader.profile_name(profile),
        None => loader,
    }
}

impl Chain {
    pub(super) fn new(profile: Option<&str>) -> Self {
        Self { profile: profile.map(str::to_owned), provider: OnceCell::new(), last: Mutex::default() }
    }

    fn last(&self) -> Option<Arc<AwsCredential>> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (credential, until) = last.as_ref()?;
        let is_valid = until.is_none_or(|until| SystemTime::now() + EARLY < until);
        is_valid.then(|| Arc::clone(credential))
    }

    fn failed(&self, why: &str) -> object_store::Error {
        let profile = self.profile.as_ref().map(|profile| format!(" for the profile `{profile}`")).unwrap_or_default();
        object_store::Error::Generic {
            store: "S3",
            source: format!(
                "there are no credentials{profile}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or a role \
                 ({why})"
            )
            .into(),
        }
    }
}

#[async_trait]
impl CredentialProvider for Chain {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        if let Some(credential) = self.last() {
            return Ok(credential);
        }
        let load = || async {
            let config = loader(self.profile.as_deref()).load().await;
            config.credentials_provider().ok_or_else(|| self.failed("nothing provides them"))
        };
        let provider = self.provider.get_or_try_init(load).await?;
        let found =
            provider.provide_credentials().await.map_err(|error| self.failed(&super::deepest(&error).to_string()))?;
        let credential = Arc::new(AwsCredential {
            key_id: found.access_key_id().to_owned(),
            secret_key: found.secret_access_key().to_owned(),
            token: found.session_token().map(str::to_owned),
        });
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((Arc::clone(&credential), found.expiry()));
        Ok(credential)
    }
}

/// The region of a profile. Files are read on a thread of their own, as whoever opens a store may not wait.
pub(super) fn region(profile: Option<&str>) -> Option<String> {
    let profile = profile.map(str::to_owned);
    let look = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
        let config: SdkConfig = runtime.block_on(loader(profile.as_deref()).load());
        config.region().map(ToString::to_string)
    };
    std::thread::spawn(look).join().ok().flatten()
}
