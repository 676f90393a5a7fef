// A client of Parlance in Go: the original contract, unary calls, and a Chat session that survives restarts of the services.
// See ../README.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	original "parlance.dev/examples/gen/original"
	messagev1 "parlance.dev/examples/gen/parlance/message/v1"
	userv1 "parlance.dev/examples/gen/parlance/user/v1"
)

//go:generate npx --yes @bufbuild/buf@1.75.0 generate

func main() {
	userService := flag.String("user-service", or(os.Getenv("USER_SERVICE"), "127.0.0.1:50051"), "`address` of user-service")
	messageService := flag.String("message-service", or(os.Getenv("MESSAGE_SERVICE"), "127.0.0.1:50052"), "`address` of message-service")
	prefix := flag.String("prefix", "go-", "prefix of all ids; a second run needs another one")
	restarts := flag.Int("restarts", 0, "number of restarts of the services to wait for")
	flag.Parse()
	log.SetFlags(0)

	// Limits the time of the whole program.
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	if err := run(ctx, *userService, *messageService, *prefix, *restarts); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, userService, messageService, prefix string, restarts int) error {
	toUsers, err := connect(userService)
	if err != nil {
		return err
	}
	defer toUsers.Close()
	toMessages, err := connect(messageService)
	if err != nil {
		return err
	}
	defer toMessages.Close()

	talk := &talk{
		original:      original.NewUserServiceClient(toUsers),
		users:         userv1.NewUserServiceClient(toUsers),
		conversations: messagev1.NewConversationServiceClient(toMessages),
		messages:      messagev1.NewMessageServiceClient(toMessages),
		prefix:        prefix,
		ann:           prefix + "ann",
		ben:           prefix + "ben",
		eve:           prefix + "eve",
		room:          prefix + "room",
	}
	if err := talk.begin(ctx); err != nil {
		return err
	}
	if err := talk.callUnary(ctx); err != nil {
		return err
	}

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	talk.session = NewSession(talk.messages, talk.ben)
	go func() { cancel(talk.session.Run(ctx)) }()
	if err := talk.chat(ctx); err != nil {
		return or(context.Cause(ctx), err)
	}
	for round := range restarts {
		if err := talk.throughRestart(ctx, round+1); err != nil {
			return or(context.Cause(ctx), err)
		}
	}
	return talk.checkLog(ctx)
}

func connect(address string) (*grpc.ClientConn, error) {
	// By default, gRPC reconnects only after up to two minutes.
	pauses := backoff.Config{BaseDelay: firstPause, Multiplier: 1.6, Jitter: 0.2, MaxDelay: lastPause}
	return grpc.NewClient(address,
		// Not encrypted: for services on the same machine.
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: pauses, MinConnectTimeout: lastPause}),
	)
}

// talk is a conversation of ann and ben.
type talk struct {
	original      original.UserServiceClient
	users         userv1.UserServiceClient
	conversations messagev1.ConversationServiceClient
	messages      messagev1.MessageServiceClient
	session       *Session

	prefix, ann, ben, eve, room string
	// The messages sent, in order.
	texts []string
}

// begin creates two users and their conversation. With request ids it is idempotent.
func (t *talk) begin(ctx context.Context) error {
	for _, id := range []string{t.ann, t.ben} {
		if _, err := t.users.CreateUser(ctx, &userv1.CreateUserRequest{UserId: id, Username: id, RequestId: id}); err != nil {
			return err
		}
	}
	// Generated from the original contract.
	info, err := t.original.GetUser(ctx, &original.UserInfo{UserId: t.ann})
	if err != nil {
		return err
	}
	say("%s is called %s", t.short(info.UserId), t.short(info.Username))

	_, err = t.conversations.CreateConversation(ctx, &messagev1.CreateConversationRequest{
		ConversationId: t.room,
		Kind:           messagev1.ConversationKind_CONVERSATION_KIND_GROUP,
		CreatorId:      t.ann,
		MemberIds:      []string{t.ben},
		RequestId:      t.room,
	})
	return err
}

// callUnary sends by unary calls: refused, accepted and repeated.
func (t *talk) callUnary(ctx context.Context) error {
	letMeIn := &messagev1.SendMessageRequest{ConversationId: t.room, SenderId: t.eve, Text: "Let me in!"}
	_, err := t.messages.SendMessage(ctx, letMeIn)
	say("eve is refused: %s", reason(err))

	hello := &messagev1.SendMessageRequest{ConversationId: t.room, SenderId: t.ann, Text: "Hello!", RequestId: "Hello!"}
	stored, err := t.messages.SendMessage(ctx, hello)
	if err != nil {
		return err
	}
	if stored.Duplicate {
		return errors.New("this was run before: give another --prefix")
	}
	say("ann sent %d", stored.Message.Sequence)
	if stored, err = t.messages.SendMessage(ctx, hello); err != nil {
		return err
	}
	if !stored.Duplicate {
		return fmt.Errorf("the same message was stored again, as %d", stored.Message.Sequence)
	}
	say("ann sent %d again: a duplicate", stored.Message.Sequence)
	t.texts = append(t.texts, hello.Text)
	return nil
}

// chat reads the log from its beginning and does everything else over the same stream.
func (t *talk) chat(ctx context.Context) error {
	if err := t.show(ctx, 3); err != nil {
		return err
	}
	for {
		item, err := t.next(ctx)
		if err != nil {
			return err
		}
		if caughtUp := item.GetCaughtUp(); caughtUp.GetConversationId() == t.room {
			say("ben is caught up at %d", caughtUp.Sequence)
			break
		}
	}

	typing := &messagev1.SendTypingRequest{ConversationId: t.room}
	if _, err := t.session.Do(ctx, &messagev1.ChatRequest{Frame: &messagev1.ChatRequest_Typing{Typing: typing}}).Wait(ctx); err != nil {
		return err
	}
	say("ben is typing")

	// Sent without waiting for each other's answers, and stored in this order.
	var sends []*Call
	for _, text := range []string{"one", "two", "three"} {
		sends = append(sends, t.send(ctx, text))
	}
	for _, send := range sends {
		ack, err := send.Wait(ctx)
		if err != nil {
			return err
		}
		say("ben sent %d", ack.Sequence)
	}
	if err := t.show(ctx, 3); err != nil {
		return err
	}

	markRead := &messagev1.MarkReadRequest{ConversationId: t.room, Sequence: 6}
	read, err := t.session.Do(ctx, &messagev1.ChatRequest{Frame: &messagev1.ChatRequest_MarkRead{MarkRead: markRead}}).Wait(ctx)
	if err != nil {
		return err
	}
	say("ben has read up to %d", read.Sequence)
	inbox, err := t.conversations.ListConversations(ctx, &messagev1.ListConversationsRequest{ActorId: t.ann})
	if err != nil {
		return err
	}
	say("ann has %d unread", inbox.Items[0].Membership.UnreadCount)
	return nil
}

// throughRestart sends several messages at a time and reads them back, until the session was opened once more.
func (t *talk) throughRestart(ctx context.Context, round int) error {
	for len(t.session.Opened()) > 0 {
		<-t.session.Opened()
	}
	say("restart the services: ben keeps sending")
	count, repeated := 0, 0
	for len(t.session.Opened()) == 0 {
		var sends []*Call
		for range 3 {
			count++
			sends = append(sends, t.send(ctx, fmt.Sprintf("%d of round %d", count, round)))
		}
		for _, send := range sends {
			ack, err := send.Wait(ctx)
			if err != nil {
				return err
			}
			event, err := t.nextEntry(ctx)
			if err != nil {
				return err
			}
			text := send.frame.GetSend().Text
			if event.Sequence != ack.Sequence || event.GetMessageSent().GetText() != text {
				return fmt.Errorf("%q was stored as %d, and then came %v", text, ack.Sequence, event)
			}
			if ack.Duplicate {
				repeated++
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
	log.Printf("round %d: %d messages, of which %d had been stored by a try without an answer", round, count, repeated)
	say("restarted: all of it is stored once and came once, in order")
	return nil
}

// checkLog compares the stored log with the messages sent.
func (t *talk) checkLog(ctx context.Context) error {
	var texts []string
	for after := int64(0); ; {
		page, err := t.messages.ListEvents(ctx, &messagev1.ListEventsRequest{
			ConversationId: t.room, ActorId: t.ann, AfterSequence: after, PageSize: 1000,
		})
		if err != nil {
			return err
		}
		for _, event := range page.Events {
			if after++; event.Sequence != after {
				return fmt.Errorf("entry %d is missing", after)
			}
			if message := event.GetMessageSent(); message != nil {
				texts = append(texts, message.Text)
			}
		}
		if after >= page.LastSequence {
			break
		}
	}
	if strings.Join(texts, "\n") != strings.Join(t.texts, "\n") {
		return fmt.Errorf("%d messages were sent, and the log has %d, or others", len(t.texts), len(texts))
	}
	say("the log has it all, without a hole")
	return nil
}

// send uses one request id for all attempts; an application should generate a UUID with the message.
func (t *talk) send(ctx context.Context, text string) *Call {
	t.texts = append(t.texts, text)
	send := &messagev1.SendMessageRequest{ConversationId: t.room, Text: text, RequestId: strings.ReplaceAll(text, " ", "-")}
	return t.session.Do(ctx, &messagev1.ChatRequest{Frame: &messagev1.ChatRequest_Send{Send: send}})
}

func (t *talk) show(ctx context.Context, count int) error {
	for range count {
		event, err := t.nextEntry(ctx)
		if err != nil {
			return err
		}
		say("ben has %d: %s", event.Sequence, t.describe(event))
	}
	return nil
}

// nextEntry skips ephemerals, which may be lost, and marks.
func (t *talk) nextEntry(ctx context.Context) (*messagev1.Event, error) {
	for {
		item, err := t.next(ctx)
		if err != nil {
			return nil, err
		}
		if event := item.GetEvent(); event.GetSequence() > 0 {
			return event, nil
		}
	}
}

func (t *talk) next(ctx context.Context) (*messagev1.ChatResponse, error) {
	select {
	case item, ok := <-t.session.Items:
		if !ok {
			return nil, context.Canceled
		}
		return item, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// describe formats an entry for a person.
func (t *talk) describe(event *messagev1.Event) string {
	switch kind := event.Kind.(type) {
	case *messagev1.Event_MessageSent:
		return fmt.Sprintf("%s: %s", t.short(kind.MessageSent.SenderId), kind.MessageSent.Text)
	case *messagev1.Event_MemberJoined:
		return t.short(kind.MemberJoined.UserId) + " joined"
	case *messagev1.Event_MemberLeft:
		return t.short(kind.MemberLeft.UserId) + " left"
	default:
		return "an event that this program does not print"
	}
}

// short returns an id without the prefix.
func (t *talk) short(id string) string {
	return strings.TrimPrefix(id, t.prefix)
}

func say(format string, values ...any) {
	fmt.Printf(format+"\n", values...)
}

// or returns the first value that is not empty.
func or[T comparable](first, second T) T {
	var empty T
	if first == empty {
		return second
	}
	return first
}
