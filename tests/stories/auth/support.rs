//! Services that demand tokens, tokens of any form, and calls of any method with any token.

use std::{
    collections::HashMap,
    net::SocketAddr,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::{Buf, BufMut};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use parlance::user::v1::{CreateUserRequest, User};
use prost::Message;
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::{
    Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    metadata::MetadataValue,
    transport::Channel,
};

use crate::support::{
    RunningMessageService, RunningUserService, TestDatabase, WebCall, World, message_service_config,
    user_service_config,
};

/// Returns the seconds since 1970.
pub(super) fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

/// A token secret in a file, and tokens that it signs.
pub(super) struct Signer {
    folder: TempDir,
    secret: Vec<u8>,
}

impl Signer {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let secret: Vec<u8> = (0..48).map(|_| fastrand::alphanumeric() as u8).collect();
        std::fs::write(folder.path().join("secret"), &secret).unwrap();
        Self { folder, secret }
    }

    /// Returns the path of the file.
    pub(super) fn file(&self) -> String {
        self.folder.path().join("secret").to_str().unwrap().to_owned()
    }

    /// Replaces the secret.
    pub(super) fn rotate(&mut self) {
        self.secret = (0..48).map(|_| fastrand::alphanumeric() as u8).collect();
        std::fs::write(self.folder.path().join("secret"), &self.secret).unwrap();
    }

    /// Signs these claims over the usual ones; `null` takes one away.
    pub(super) fn sign(&self, claims: &Value) -> String {
        let mut all = json!({ "iss": "parlance", "aud": "parlance", "iat": now(), "exp": now() + 3600 });
        for (name, value) in claims.as_object().unwrap() {
            if value.is_null() {
                all.as_object_mut().unwrap().remove(name);
            } else {
                all[name] = value.clone();
            }
        }
        let key = EncodingKey::from_secret(&self.secret).unwrap();
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &all, &key).unwrap()
    }

    /// Returns a token of a user.
    pub(super) fn user(&self, user_id: &str) -> String {
        self.sign(&json!({ "sub": user_id }))
    }

    /// Returns a token of a user that ends in this many seconds.
    pub(super) fn short(&self, user_id: &str, seconds: i64) -> String {
        self.sign(&json!({ "sub": user_id, "exp": now() + seconds }))
    }

    /// Returns a token of another role.
    pub(super) fn of_role(&self, role: &str) -> String {
        self.sign(&json!({ "sub": "backend", "parlance_role": role }))
    }
}

/// Both services, which demand tokens.
pub(super) struct Guarded {
    pub(super) world: World,
    pub(super) signer: Signer,
}

impl Guarded {
    /// Starts both, creates these users, and waits until they serve.
    pub(super) async fn new(users: &[&str]) -> Self {
        Self::with(users, &["--auth", "required"], &[]).await
    }

    /// The same, with other flags for both, and more for message-service.
    pub(super) async fn with(users: &[&str], both: &[&str], more: &[&str]) -> Self {
        let (database, signer) = (TestDatabase::migrated().await, Signer::new());
        let file = signer.file();
        let flags = [&["--token-secret-file", &*file], both].concat();
        let user_service = RunningUserService::launch(user_service_config(&database.url(), &flags)).await;
        user_service.wait_until_serving().await;
        let address = user_service.address().to_string();
        let flags = [&flags[..], more].concat();
        let config = message_service_config(&database.url(), &address, &flags);
        let message_service = RunningMessageService::start(config).await;
        let guarded = Self { world: World { message_service, user_service, database }, signer };
        for name in users {
            guarded.create_user(name).await;
        }
        guarded
    }

    /// Starts a second message-service on the same database.
    pub(super) async fn replica(&self) -> RunningMessageService {
        let address = self.world.user_service.address().to_string();
        let file = self.signer.file();
        let flags = ["--token-secret-file", &*file, "--auth", "required"];
        RunningMessageService::start(message_service_config(&self.world.database.url(), &address, &flags)).await
    }

    async fn create_user(&self, name: &str) {
        let new = CreateUserRequest { user_id: name.to_owned(), username: name.to_owned(), ..Default::default() };
        let token = self.signer.of_role("service");
        self.user_service("CreateUser", &new, Some(&token)).await.unwrap();
    }

    /// Calls a method of `parlance.user.v1.UserService`.
    pub(super) async fn user_service(
        &self,
        method: &str,
        request: &impl Message,
        token: Option<&str>,
    ) -> Result<User, Status> {
        let path = format!("/parlance.user.v1.UserService/{method}");
        let answer = call(&self.world.user_service.channel(), &path, request.encode_to_vec(), token).await?;
        Ok(User::decode(&*answer).unwrap())
    }

    /// Calls a method of message-service, such as `MessageService/SendMessage`.
    pub(super) async fn message_service<R: Message + Default>(
        &self,
        method: &str,
        request: &impl Message,
        token: Option<&str>,
    ) -> Result<R, Status> {
        let path = format!("/parlance.message.v1.{method}");
        let answer = call(&self.world.message_service.channel(), &path, request.encode_to_vec(), token).await?;
        Ok(R::decode(&*answer).unwrap())
    }
}

/// Returns the value of the header for a token.
pub(super) fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// Adds a token to a request.
pub(super) fn with_token<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", bearer(token).parse().unwrap());
    request
}

/// Calls any method with one message, and returns the first message of the answer, empty where a stream ends without one.
pub(super) async fn call(
    channel: &Channel,
    path: &str,
    message: Vec<u8>,
    token: Option<&str>,
) -> Result<Vec<u8>, Status> {
    let headers: Vec<String> = token.map(bearer).into_iter().collect();
    call_with(channel, path, message, &headers.iter().map(|value| ("authorization", &**value)).collect::<Vec<_>>())
        .await
}

/// The same, with any metadata.
pub(super) async fn call_with(
    channel: &Channel,
    path: &str,
    message: Vec<u8>,
    metadata: &[(&'static str, &str)],
) -> Result<Vec<u8>, Status> {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let mut request = Request::new(message);
    for (name, value) in metadata {
        let value = MetadataValue::try_from(*value).map_err(|_| Status::internal("not a value of metadata"))?;
        request.metadata_mut().append(*name, value);
    }
    let mut answer = grpc.server_streaming(request, path.parse().unwrap(), Raw).await?.into_inner();
    Ok(answer.message().await?.unwrap_or_default())
}

/// Calls any method over gRPC-Web.
pub(super) async fn web_call(address: SocketAddr, path: &str, message: &[u8], token: Option<&str>) -> Status {
    let value = token.map(bearer);
    let mut headers = HashMap::from([("content-type", "application/grpc-web+proto")]);
    headers.extend(value.as_deref().map(|value| ("authorization", value)));
    let headers: Vec<(&str, &str)> = headers.into_iter().collect();
    let mut framed = vec![0];
    framed.extend((message.len() as u32).to_be_bytes());
    framed.extend(message);
    WebCall::request(address, "POST", path, &headers, &framed).await.answer().await.status()
}

/// Messages as they are.
#[derive(Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, message: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining()).to_vec()))
    }
}
