//! `parlance chat` used by a person and by a script: the real binary, over pipes and in a terminal.

use std::{
    fs::File,
    io::{Read, Write},
    net::SocketAddr,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use nix::{
    pty::openpty,
    sys::termios::{LocalFlags, tcgetattr},
};
use parlance::{message::v1::RemoveMemberRequest, user::v1::DeactivateUserRequest};

use crate::support::{PATIENCE, Process, TestDatabase, World, binary, eventually, group};

/// A running `parlance chat`.
struct Chat {
    child: Child,
    input: Option<Box<dyn Write + Send>>,
    /// The conversation, and diagnostics; in a terminal both are one stream.
    out: Arc<Mutex<String>>,
    diagnostics: Arc<Mutex<String>>,
}

impl Chat {
    fn command(user_service: SocketAddr, message_service: SocketAddr, name: &str, conversation_id: &str) -> Command {
        let mut command = Command::new(binary("parlance"));
        command.args(["chat", "--as", name, conversation_id]);
        command.args(["--user-service-url", &format!("http://{user_service}")]);
        command.args(["--message-service-url", &format!("http://{message_service}")]);
        command
    }

    fn over_pipes(world: &World, name: &str, conversation_id: &str) -> Self {
        let (users, messages) = (world.user_service.address(), world.message_service.address());
        Self::piped(Self::command(users, messages, name, conversation_id))
    }

    fn piped(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let input = child.stdin.take().expect("a pipe");
        let out = collect_output(child.stdout.take().expect("a pipe"));
        let diagnostics = collect_output(child.stderr.take().expect("a pipe"));
        Self { child, input: Some(Box::new(input)), out, diagnostics }
    }

    fn types(&mut self, text: &str) {
        let input = self.input.as_mut().expect("an open input");
        input.write_all(text.as_bytes()).and_then(|()| input.flush()).unwrap();
    }

    fn out(&self) -> String {
        self.out.lock().unwrap().clone()
    }

    fn diagnostics(&self) -> String {
        self.diagnostics.lock().unwrap().clone()
    }

    async fn wait_for(&self, text: &str) {
        self.wait_until(|out, diagnostics| out.contains(text) || diagnostics.contains(text)).await;
    }

    async fn wait_until(&self, is_there: impl Fn(&str, &str) -> bool) {
        let shown = || async {
            let (out, diagnostics) = (self.out(), self.diagnostics());
            if is_there(&out, &diagnostics) { Ok(()) } else { Err(format!("{out}\n---\n{diagnostics}")) }
        };
        eventually(PATIENCE, shown).await;
    }

    /// Closes the input.
    async fn close(mut self) -> (ExitStatus, String, String) {
        self.input = None;
        let status = self.ended().await;
        (status, self.out(), self.diagnostics())
    }

    async fn ended(&mut self) -> ExitStatus {
        let child = Mutex::new(&mut self.child);
        let status =
            eventually(PATIENCE, || async { child.lock().unwrap().try_wait().unwrap().ok_or("still running") }).await;
        // The last output may still be in the pipe.
        eventually(PATIENCE, || async {
            let is_read = Arc::strong_count(&self.out) == 1 && Arc::strong_count(&self.diagnostics) == 1;
            if is_read { Ok(()) } else { Err("the output is not read completely") }
        })
        .await;
        status
    }
}

impl Drop for Chat {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Collects the output as it arrives. The thread holds the other handle until the end.
fn collect_output(mut from: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let text = Arc::<Mutex<String>>::default();
    let kept = text.clone();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        // Reading from a closed terminal fails.
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            kept.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    });
    text
}

/// Lines without the time at their beginning.
fn without_times(out: &str) -> Vec<&str> {
    out.lines().map(|line| line.split_once(' ').map_or(line, |(_, text)| text)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_new_users_talk_and_a_third_reads_the_conversation() {
    let world = World::new().await;
    let mut ann = Chat::over_pipes(&world, "ann", "general");
    ann.wait_for("You are ann in general.").await;
    let mut ben = Chat::over_pipes(&world, "ben", "general");
    ann.wait_for("ben joined").await;
    ann.types("hello\n");
    ben.wait_for("ann: hello").await;
    ben.types("hi\n//shrug\n\n/nonsense\n/who\n");
    ann.wait_for("ben: /shrug").await;
    ben.wait_for("unknown command /nonsense").await;
    ben.wait_for("2 members: ann (owner), ben").await;
    let (status, out, _) = ann.close().await;
    assert!(status.success());
    assert_eq!(without_times(&out), ["ben joined", "ann: hello", "ben: hi", "ben: /shrug"]);

    let mut cat = Chat::command(world.user_service.address(), world.message_service.address(), "cat", "general");
    cat.args(["--history", "2"]);
    let cat = Chat::piped(cat);
    ben.wait_for("cat joined").await;
    let (status, out, diagnostics) = cat.close().await;
    assert!(status.success(), "{diagnostics}");
    assert_eq!(without_times(&out), ["ben: hi", "ben: /shrug"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn piped_input_is_stored_and_shown_before_the_client_exits() {
    const COUNT: usize = 300;
    let world = World::new().await;
    let mut robot = Chat::over_pipes(&world, "robot", "builds");
    let lines: Vec<String> = (0..COUNT).map(|n| format!("line {n}")).collect();
    robot.types(&(lines.join("\n") + "\n"));
    robot.types(&"x".repeat(20_000));
    let (status, out, diagnostics) = robot.close().await;
    assert_eq!(status.code(), Some(1), "one line was not sent");
    assert!(diagnostics.contains("a line was not sent: it is longer than 16,384 bytes"), "{diagnostics}");
    let expected: Vec<String> = lines.iter().map(|line| format!("robot: {line}")).collect();
    assert_eq!(without_times(&out), expected);
    assert_eq!(world.log("builds", "robot").await.len(), 1 + COUNT);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_user_reads_the_reason_in_words() {
    let world = World::with_group().await;
    let (status, _, diagnostics) = Chat::over_pipes(&world, "cat", "g").close().await;
    assert_eq!(status.code(), Some(1));
    assert!(diagnostics.contains("g is a group that cat is not a member of"), "{diagnostics}");

    let mut ben = Chat::over_pipes(&world, "ben", "g");
    ben.wait_for("You are ben in g.").await;
    // Its stream is open once this arrives.
    world.send("g", "ann", "a farewell").await;
    ben.wait_for("a farewell").await;
    let remove =
        RemoveMemberRequest { conversation_id: "g".to_owned(), actor_id: "ann".to_owned(), user_id: "ben".to_owned() };
    world.conversations().remove_member(remove).await.unwrap();
    assert_eq!(ben.ended().await.code(), Some(1));
    assert!(
        ben.out().contains("ann removed ben") && ben.diagnostics().contains("you are no longer in g"),
        "{}",
        ben.diagnostics()
    );

    world.create(group("h", "dan", &["ann"])).await;
    let mut dan = Chat::over_pipes(&world, "dan", "h");
    dan.wait_for("You are dan in h.").await;
    let deactivate = DeactivateUserRequest { user_id: "dan".to_owned() };
    world.user_service.users().deactivate_user(deactivate).await.unwrap();
    assert_eq!(dan.ended().await.code(), Some(1));
    assert!(dan.diagnostics().contains("the session has ended"), "{}", dan.diagnostics());

    let unreachable = "127.0.0.1:1".parse().unwrap();
    let (status, _, diagnostics) = Chat::piped(Chat::command(unreachable, unreachable, "ann", "g")).close().await;
    assert_eq!(status.code(), Some(1));
    assert!(diagnostics.contains("cannot look up the user") && diagnostics.contains("refused"), "{diagnostics}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn input_typed_while_the_service_is_down_is_sent_when_it_returns() {
    let database = TestDatabase::migrated().await;
    let user_service = Process::user_service(&database.url()).await;
    let (url, users) = (database.url(), user_service.address().to_string());
    let mut message_service = Process::message_service(&url, &users, &[]).await;
    let at = message_service.address();
    let mut ann = Chat::piped(Chat::command(user_service.address(), at, "ann", "general"));
    ann.types("before\n");
    ann.wait_for("ann: before").await;
    message_service.kill();
    ann.wait_for("disconnected").await;
    ann.types("meanwhile\nand more\n");
    let _back = Process::message_service_on(at, &url, &users).await;
    ann.wait_for("reconnected").await;
    let (status, out, diagnostics) = ann.close().await;
    assert!(status.success(), "{diagnostics}");
    assert_eq!(without_times(&out), ["ann: before", "ann: meanwhile", "ann: and more"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_terminal_typing_is_shown_and_control_sequences_are_escaped() {
    let world = World::new().await;
    let mut ann = Chat::over_pipes(&world, "ann", "general");
    ann.wait_for("You are ann").await;

    let terminal = openpty(None, None).unwrap();
    let mut command = Chat::command(world.user_service.address(), world.message_service.address(), "ben", "general");
    let slave = |_| Stdio::from(terminal.slave.try_clone().unwrap());
    let [stdin, stdout, stderr] = [0, 1, 2].map(slave);
    let child = command.env("TERM", "xterm").stdin(stdin).stdout(stdout).stderr(stderr).spawn().unwrap();
    let master = File::from(terminal.master);
    let (out, diagnostics) = (collect_output(master.try_clone().unwrap()), Arc::default());
    let mut ben = Chat { child, input: Some(Box::new(master)), out, diagnostics };
    let is_raw = || {
        let flags = tcgetattr(&terminal.slave).unwrap().local_flags;
        !flags.contains(LocalFlags::ICANON)
    };
    ben.wait_for("You are ben").await;
    ben.wait_for("> ").await;
    assert!(is_raw());
    ben.types("hello");
    ann.wait_for("ben is typing…").await;
    ben.types("\r");
    ann.wait_for("ben: hello").await;
    ben.wait_until(|out, _| out.matches("ben:\x1b[0m hello").count() == 1).await;
    ann.types("\x1b[2Jgone\x07\n");
    ben.wait_for("␛[2Jgone␇").await;
    assert!(!ben.out().contains("\x1b[2J"));
    world
        .messages()
        .send_typing(parlance::message::v1::SendTypingRequest {
            conversation_id: "general".to_owned(),
            actor_id: "ann".to_owned(),
        })
        .await
        .unwrap();
    ben.wait_for("ann is typing…").await;
    // Ctrl-D.
    ben.types("\x04");
    let child = Mutex::new(&mut ben.child);
    let status =
        eventually(PATIENCE, || async { child.lock().unwrap().try_wait().unwrap().ok_or("still running") }).await;
    assert!(status.success());
    assert!(!is_raw());
}
