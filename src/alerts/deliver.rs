//! Sending: each channel on a thread of its own, for no longer than it may take.

use std::path::Path;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use tokio::runtime::Builder;

use super::message::Message;
use super::{command, email, slack, teams};
use crate::project::{Channel, Delivery, Secret};
use crate::stores;

/// How long after its time a channel is given up that does not look at the clock itself.
const GRACE: Duration = Duration::from_secs(2);

/// A message on its way.
#[derive(Debug)]
pub struct Sending {
    answer: Receiver<Result<(), String>>,
    until: Instant,
    timeout: Duration,
}

impl Sending {
    /// Begins to send; `folder` is where programs run.
    pub fn start(channel: &Channel, folder: &Path, delivery: Delivery, message: Message) -> Self {
        let (tell, answer) = mpsc::channel();
        let (name, timeout, folder) = (channel.name.clone(), channel.timeout, folder.to_path_buf());
        let work = move || {
            let sent = send(&delivery, &folder, &name, &message, timeout);
            // Nobody listens if it took too long.
            let _ = tell.send(sent.map_err(|why| without_secrets(&why, &delivery)));
        };
        // Without a thread nobody answers, and `finish` says so.
        drop(std::thread::Builder::new().name("alert".to_owned()).spawn(work));
        Self { answer, until: Instant::now() + timeout + GRACE, timeout }
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// Why it could not be sent, without secrets.
    pub fn finish(self) -> Result<(), String> {
        let late = || Err(format!("it did not answer within {}s", self.timeout.as_secs()));
        self.answer.recv_timeout(self.until.saturating_duration_since(Instant::now())).unwrap_or_else(|_| late())
    }
}

fn send(delivery: &Delivery, folder: &Path, channel: &str, message: &Message, timeout: Duration) -> Result<(), String> {
    let post = |url: &Secret, headers: &[(String, Secret)], body: String| {
        let headers: Vec<(String, String)> =
            headers.iter().map(|(name, value)| (name.clone(), value.reveal().to_owned())).collect();
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
        runtime.block_on(stores::post(url.reveal(), &headers, body, timeout))
    };
    match delivery {
        Delivery::Slack(url) => post(url, &[], slack::payload(message).to_string()),
        Delivery::Teams(url) => post(url, &[], teams::payload(message).to_string()),
        Delivery::Webhook(url, headers) => post(url, headers, message.json.to_string()),
        Delivery::Email(mail) => email::send(mail, message, timeout),
        Delivery::Command(words) => command::run(words, folder, channel, message, timeout),
    }
}

/// What a server answers may repeat what it was sent.
fn without_secrets(text: &str, delivery: &Delivery) -> String {
    let secrets: Vec<&Secret> = match delivery {
        Delivery::Slack(url) | Delivery::Teams(url) => vec![url],
        Delivery::Webhook(url, headers) => headers.iter().map(|(_, value)| value).chain([url]).collect(),
        Delivery::Email(mail) => mail.login.iter().map(|(_, word)| word).collect(),
        Delivery::Command(_) => Vec::new(),
    };
    let secrets = secrets.into_iter().map(Secret::reveal).filter(|secret| !secret.is_empty());
    secrets.fold(text.to_owned(), |text, secret| text.replace(secret, "***"))
}
