//! `parlance chat` as a person and as a script have it: the real binary, by pipes and in a terminal.

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
    /// What is said in the conversation, and the rest; in a terminal both are one.
    out: Arc<Mutex<String>>,
    aside: Arc<Mutex<String>>,
}

impl Chat {
    fn command(user_service: SocketAddr, message_service: SocketAddr, name: &str, conversation_id: &str) -> Command {
        let mut command = Command::new(binary("parlance"));
        command.args(["chat", "--as", name, conversation_id]);
        command.args(["--user-service-url", &format!("http://{user_service}")]);
        command.args(["--message-service-url", &format!("http://{message_service}")]);
        command
    }

    fn by_pipes(world: &World, name: &str, conversation_id: &str) -> Self {
        let (users, messages) = (world.user_service.address(), world.message_service.address());
        Self::piped(Self::command(users, messages, name, conversation_id))
    }

    fn piped(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let input = child.stdin.take().expect("a pipe");
        let out = kept(child.stdout.take().expect("a pipe"));
        let aside = kept(child.stderr.take().expect("a pipe"));
        Self { child, input: Some(Box::new(input)), out, aside }
    }

    fn types(&mut self, text: &str) {
        let input = self.input.as_mut().expect("an open input");
        input.write_all(text.as_bytes()).and_then(|()| input.flush()).unwrap();
    }

    fn out(&self) -> String {
        self.out.lock().unwrap().clone()
    }

    fn aside(&self) -> String {
        self.aside.lock().unwrap().clone()
    }

    async fn shows(&self, text: &str) {
        self.shows_when(|out, aside| out.contains(text) || aside.contains(text)).await;
    }

    async fn shows_when(&self, is_there: impl Fn(&str, &str) -> bool) {
        let look = || async {
            let (out, aside) = (self.out(), self.aside());
            if is_there(&out, &aside) { Ok(()) } else { Err(format!("{out}\n---\n{aside}")) }
        };
        eventually(PATIENCE, look).await;
    }

    /// No more input.
    async fn leaves(mut self) -> (ExitStatus, String, String) {
        self.input = None;
        let status = self.ended().await;
        (status, self.out(), self.aside())
    }

    async fn ended(&mut self) -> ExitStatus {
        let child = Mutex::new(&mut self.child);
        let status =
            eventually(PATIENCE, || async { child.lock().unwrap().try_wait().unwrap().ok_or("it runs") }).await;
        // What was written last is still on its way to here.
        eventually(PATIENCE, || async {
            let is_read = Arc::strong_count(&self.out) == 1 && Arc::strong_count(&self.aside) == 1;
            if is_read { Ok(()) } else { Err("not read to its end") }
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

/// What comes, as it comes. The thread has the other handle until the end.
fn kept(mut from: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let text = Arc::<Mutex<String>>::default();
    let kept = text.clone();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        // A terminal that is gone is an error.
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            kept.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    });
    text
}

/// Lines without the time that they begin with.
fn said(out: &str) -> Vec<&str> {
    out.lines().map(|line| line.split_once(' ').map_or(line, |(_, said)| said)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_who_never_were_there_talk_and_a_third_reads_what_they_said() {
    let world = World::new().await;
    let mut ann = Chat::by_pipes(&world, "ann", "general");
    ann.shows("You are ann in general.").await;
    let mut ben = Chat::by_pipes(&world, "ben", "general");
    ann.shows("ben joined").await;
    ann.types("hello\n");
    ben.shows("ann: hello").await;
    ben.types("hi\n//shrug\n\n/nonsense\n/who\n");
    ann.shows("ben: /shrug").await;
    ben.shows("unknown command /nonsense").await;
    ben.shows("2 members: ann (owner), ben").await;
    let (status, out, _) = ann.leaves().await;
    assert!(status.success());
    assert_eq!(said(&out), ["ben joined", "ann: hello", "ben: hi", "ben: /shrug"]);

    let mut cat = Chat::command(world.user_service.address(), world.message_service.address(), "cat", "general");
    cat.args(["--history", "2"]);
    let cat = Chat::piped(cat);
    ben.shows("cat joined").await;
    let (status, out, aside) = cat.leaves().await;
    assert!(status.success(), "{aside}");
    assert_eq!(said(&out), ["ben: hi", "ben: /shrug"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_script_pipes_in_is_stored_and_shown_when_it_ends() {
    const COUNT: usize = 300;
    let world = World::new().await;
    let mut robot = Chat::by_pipes(&world, "robot", "builds");
    let lines: Vec<String> = (0..COUNT).map(|n| format!("line {n}")).collect();
    robot.types(&(lines.join("\n") + "\n"));
    robot.types(&"x".repeat(20_000));
    let (status, out, aside) = robot.leaves().await;
    assert_eq!(status.code(), Some(1), "one line was not sent");
    assert!(aside.contains("a line was not sent: it is longer than 16,384 bytes"), "{aside}");
    let expected: Vec<String> = lines.iter().map(|line| format!("robot: {line}")).collect();
    assert_eq!(said(&out), expected);
    assert_eq!(world.log("builds", "robot").await.len(), 1 + COUNT);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_is_told_so_in_words() {
    let world = World::with_group().await;
    let (status, _, aside) = Chat::by_pipes(&world, "cat", "g").leaves().await;
    assert_eq!(status.code(), Some(1));
    assert!(aside.contains("g is a group that cat is not a member of"), "{aside}");

    let mut ben = Chat::by_pipes(&world, "ben", "g");
    ben.shows("You are ben in g.").await;
    let remove =
        RemoveMemberRequest { conversation_id: "g".to_owned(), actor_id: "ann".to_owned(), user_id: "ben".to_owned() };
    world.conversations().remove_member(remove).await.unwrap();
    assert_eq!(ben.ended().await.code(), Some(1));
    assert!(ben.out().contains("ann removed ben") && ben.aside().contains("you are no longer in g"), "{}", ben.aside());

    world.create(group("h", "dan", &["ann"])).await;
    let mut dan = Chat::by_pipes(&world, "dan", "h");
    dan.shows("You are dan in h.").await;
    let deactivate = DeactivateUserRequest { user_id: "dan".to_owned() };
    world.user_service.users().deactivate_user(deactivate).await.unwrap();
    assert_eq!(dan.ended().await.code(), Some(1));
    assert!(dan.aside().contains("the session has ended"), "{}", dan.aside());

    let nobody = "127.0.0.1:1".parse().unwrap();
    let (status, _, aside) = Chat::piped(Chat::command(nobody, nobody, "ann", "g")).leaves().await;
    assert_eq!(status.code(), Some(1));
    assert!(aside.contains("cannot look up the user") && aside.contains("refused"), "{aside}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_typed_while_the_service_is_away_is_sent_when_it_is_back() {
    let database = TestDatabase::migrated().await;
    let user_service = Process::user_service(&database.url()).await;
    let (url, users) = (database.url(), user_service.address().to_string());
    let mut message_service = Process::message_service(&url, &users, &[]).await;
    let at = message_service.address();
    let mut ann = Chat::piped(Chat::command(user_service.address(), at, "ann", "general"));
    ann.types("before\n");
    ann.shows("ann: before").await;
    message_service.kill();
    ann.shows("disconnected").await;
    ann.types("meanwhile\nand more\n");
    let _back = Process::message_service_on(at, &url, &users).await;
    ann.shows("reconnected").await;
    let (status, out, aside) = ann.leaves().await;
    assert!(status.success(), "{aside}");
    assert_eq!(said(&out), ["ann: before", "ann: meanwhile", "ann: and more"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_terminal_typing_is_shown_and_nobody_takes_it_over() {
    let world = World::new().await;
    let mut ann = Chat::by_pipes(&world, "ann", "general");
    ann.shows("You are ann").await;

    let terminal = openpty(None, None).unwrap();
    let mut command = Chat::command(world.user_service.address(), world.message_service.address(), "ben", "general");
    let slave = |_| Stdio::from(terminal.slave.try_clone().unwrap());
    let [stdin, stdout, stderr] = [0, 1, 2].map(slave);
    let child = command.env("TERM", "xterm").stdin(stdin).stdout(stdout).stderr(stderr).spawn().unwrap();
    let master = File::from(terminal.master);
    let (out, aside) = (kept(master.try_clone().unwrap()), Arc::default());
    let mut ben = Chat { child, input: Some(Box::new(master)), out, aside };
    let is_raw = || {
        let flags = tcgetattr(&terminal.slave).unwrap().local_flags;
        !flags.contains(LocalFlags::ICANON)
    };
    ben.shows("You are ben").await;
    ben.shows("> ").await;
    assert!(is_raw());
    ben.types("hello");
    ann.shows("ben is typing…").await;
    ben.types("\r");
    ann.shows("ben: hello").await;
    ben.shows_when(|out, _| out.matches("ben:\x1b[0m hello").count() == 1).await;
    ann.types("\x1b[2Jgone\x07\n");
    ben.shows("␛[2Jgone␇").await;
    assert!(!ben.out().contains("\x1b[2J"));
    world
        .messages()
        .send_typing(parlance::message::v1::SendTypingRequest {
            conversation_id: "general".to_owned(),
            actor_id: "ann".to_owned(),
        })
        .await
        .unwrap();
    ben.shows("ann is typing…").await;
    // Ctrl-D.
    ben.types("\x04");
    let child = Mutex::new(&mut ben.child);
    let status = eventually(PATIENCE, || async { child.lock().unwrap().try_wait().unwrap().ok_or("it runs") }).await;
    assert!(status.success());
    assert!(!is_raw());
}
