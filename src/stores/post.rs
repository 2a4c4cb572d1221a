//! A request that tells somebody something: posted once, or twice where that may help, and never to another address than the one
//! that was given.

use std::time::{Duration, Instant};

use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode};

use super::deepest;

/// How long a server that refuses has before it is asked again.
const PAUSE: Duration = Duration::from_millis(500);

/// How much of a server's answer is shown.
const SHOWN: usize = 80;

/// Posts JSON. Names and values in `headers` come from outside.
///
/// # Errors
/// Why it did not arrive, in words without the address.
pub async fn post(url: &str, headers: &[(String, String)], body: String, timeout: Duration) -> Result<(), String> {
    let client = Client::builder().redirect(Policy::none()).timeout(timeout).connect_timeout(timeout);
    let client = client.build().map_err(|error| words(&error))?;
    let until = Instant::now() + timeout;
    let mut is_last = false;
    loop {
        let mut request = client.post(url).header("content-type", "application/json").body(body.clone());
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let left = until.saturating_duration_since(Instant::now());
        let answer = match tokio::time::timeout(left, request.send()).await {
            Err(_) => return Err(late(timeout)),
            Ok(answer) => answer,
        };
        let (why, pause) = match answer {
            Ok(answer) if answer.status().is_success() => return Ok(()),
            Ok(answer) => refusal(answer, until).await,
            Err(error) if error.is_timeout() => return Err(late(timeout)),
            Err(error) => {
                let pause = error.is_connect().then_some(PAUSE);
                (words(&error), pause)
            }
        };
        let Some(pause) = pause.filter(|pause| !is_last && Instant::now() + *pause < until) else { return Err(why) };
        tokio::time::sleep(pause).await;
        is_last = true;
    }
}

/// What a server said that did not take it, and after which time it may.
async fn refusal(answer: Response, until: Instant) -> (String, Option<Duration>) {
    let status = answer.status();
    let asked = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
    let passes = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
    let pause = passes.then(|| asked.map_or(PAUSE, Duration::from_secs));
    if status.is_redirection() {
        return (format!("it answered {status}, and redirects are not followed"), None);
    }
    let left = until.saturating_duration_since(Instant::now());
    let text = tokio::time::timeout(left, answer.text()).await.ok().and_then(Result::ok).unwrap_or_default();
    let text: String = text.lines().next().unwrap_or_default().trim().chars().take(SHOWN).collect();
    (if text.is_empty() { format!("it answered {status}") } else { format!("it answered {status}: {text}") }, pause)
}

fn late(timeout: Duration) -> String {
    format!("it did not answer within {}s", timeout.as_secs())
}

/// The words at the bottom: those above it have the address.
fn words(error: &reqwest::Error) -> String {
    deepest(error).to_string()
}
