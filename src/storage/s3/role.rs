//! Roles: credentials that STS gives to somebody who may take a role on (`AssumeRole`).
//!
//! Source: <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use object_store::aws::{AwsAuthorizer, AwsCredential, AwsCredentialProvider};
use object_store::client::{HttpClient, HttpConnector, HttpRequest, HttpRequestBody};
use url::Url;
use url::form_urlencoded::Serializer;

use super::super::http;
use super::issued::{Issued, Issuer};
use crate::error::{Error, Result};

const DEADLINE: Duration = Duration::from_secs(30);

/// A role, and where it is asked for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Role {
    pub arn: String,
    pub session_name: String,
    pub external_id: Option<String>,
    pub duration_s: u32,
    pub region: String,
    pub endpoint: Url,
}

/// Asks STS for a role as somebody else.
pub(super) struct RoleIssuer {
    role: Role,
    asks: AwsCredentialProvider,
    client: HttpClient,
}

impl RoleIssuer {
    /// `asks` is who may take the role on.
    pub fn new(role: Role, asks: AwsCredentialProvider, connector: &http::IoConnector) -> Result<Self> {
        let client = connector.connect(&http::client_options(Some(&role.endpoint)))?;
        Ok(Self { role, asks, client })
    }

    fn failed(&self, reason: &str) -> Error {
        Error::Storage(format!("STS did not give the role \"{}\": {reason}", self.role.arn))
    }

    fn request(&self, signer: &AwsCredential) -> Result<HttpRequest> {
        let role = &self.role;
        let mut form = Serializer::new(String::new());
        form.append_pair("Action", "AssumeRole")
            .append_pair("Version", "2011-06-15")
            .append_pair("RoleArn", &role.arn)
            .append_pair("RoleSessionName", &role.session_name)
            .append_pair("DurationSeconds", &role.duration_s.to_string());
        if let Some(id) = &role.external_id {
            form.append_pair("ExternalId", id);
        }
        let malformed = |_| self.failed("the request cannot be written");
        let mut request = HttpRequest::new(HttpRequestBody::from(form.finish()));
        *request.method_mut() = "POST".parse().map_err(|_| self.failed("POST is unknown"))?;
        *request.uri_mut() = role.endpoint.as_str().parse().map_err(|_| self.failed("its URL is wrong"))?;
        let form_type = "application/x-www-form-urlencoded; charset=utf-8".parse().map_err(malformed)?;
        request.headers_mut().insert("content-type", form_type);
        AwsAuthorizer::new(signer, "sts", &role.region).authorize(&mut request, None);
        Ok(request)
    }

    async fn answer(&self) -> Result<String> {
        let signer = self.asks.get_credential().await?;
        let response = self.client.execute(self.request(&signer)?).await;
        let response = response.map_err(|error| self.failed(&error.to_string()))?;
        let status = response.status();
        let body = response.into_body().bytes().await.map_err(|error| self.failed(&error.to_string()))?;
        let text = String::from_utf8_lossy(&body).into_owned();
        match status.is_success() {
            true => Ok(text),
            false => {
                let code = element(&text, "Code").unwrap_or_default();
                let message = element(&text, "Message").unwrap_or_default();
                Err(self.failed(format!("{status} {code} {message}").trim_end()))
            }
        }
    }
}

#[async_trait]
impl Issuer for RoleIssuer {
    async fn issue(&self) -> Result<Issued> {
        let answer = tokio::time::timeout(DEADLINE, self.answer()).await;
        let answer = answer.map_err(|_| self.failed(&format!("no answer within {DEADLINE:?}")))??;
        let part = |name: &str| {
            element(&answer, name).ok_or_else(|| self.failed(&format!("its answer holds no {name}")))
        };
        let credential = AwsCredential {
            key_id: part("AccessKeyId")?,
            secret_key: part("SecretAccessKey")?,
            token: Some(part("SessionToken")?),
        };
        let ends = DateTime::parse_from_rfc3339(&part("Expiration")?)
            .map_err(|_| self.failed("its answer holds no time of expiration"))?;
        Ok(Issued { credential: Arc::new(credential), ends: Some(ends.with_timezone(&Utc)) })
    }
}

impl fmt::Debug for RoleIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoleIssuer").field("role", &self.role).finish_non_exhaustive()
    }
}

/// The text of the first XML element of that name that has no attributes, as those of STS have none.
fn element(xml: &str, name: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    let entities = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&amp;", "&")];
    Some(entities.iter().fold(text.trim().to_owned(), |text, (entity, letter)| text.replace(entity, letter)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_found_and_their_entities_replaced() {
        let xml = "<R><Credentials>\n <SessionToken> a+b/c=&amp;lt; </SessionToken></Credentials></R>";
        assert_eq!(element(xml, "SessionToken").as_deref(), Some("a+b/c=&lt;"));
        assert_eq!(element(xml, "SecretAccessKey"), None);
    }
}
