package main

import (
	"context"
	"errors"
	"io"
	"log"
	"math/rand/v2"
	"slices"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	messagev1 "parlance.dev/examples/gen/parlance/message/v1"
)

const (
	firstPause = 100 * time.Millisecond
	lastPause  = 5 * time.Second
	// The server sends a heartbeat after 30 s of silence at most.
	silence = 45 * time.Second
	// The server refuses more than 256 unanswered frames.
	maxUnanswered = 128
	// The most cursors of one frame.
	maxCursors = 10_000
	// The items that wait for the application. While it is full the session reads nothing, answers to frames included.
	maxKept = 1024
)

// Session is one user's Chat, which survives lost connections and restarts of the server: entries arrive in order, without
// gaps and duplicates, and frames are executed once, in their order.
type Session struct {
	// Items has the items from the server in order: event, caught_up, closed and truncated. Closed when Run returns.
	Items <-chan *messagev1.ChatResponse

	client  messagev1.MessageServiceClient
	actorID string
	items   chan *messagev1.ChatResponse
	calls   chan *Call
	opened  chan struct{}

	// The fields below are used by Run only.

	// The last sequence of each conversation, from which the session resumes.
	cursors map[string]int64
	// The epoch of the log that the cursors are in: with it, the server notices if entries up to them were lost.
	epoch string
	// Unanswered frames, in order. They are sent again on the next connection.
	unanswered []*Call
	lastID     uint64
}

// Call is a frame submitted to a session.
type Call struct {
	frame  *messagev1.ChatRequest
	answer chan answer
}

type answer struct {
	ack *messagev1.Ack
	err error
}

// NewSession creates a session. Run connects it.
func NewSession(client messagev1.MessageServiceClient, actorID string) *Session {
	items := make(chan *messagev1.ChatResponse, maxKept)
	return &Session{
		Items:   items,
		client:  client,
		actorID: actorID,
		items:   items,
		calls:   make(chan *Call),
		opened:  make(chan struct{}, maxKept),
		cursors: map[string]int64{},
	}
}

// Opened receives one value each time the session is opened.
func (s *Session) Opened() <-chan struct{} {
	return s.opened
}

// Do submits a frame without waiting for its answer. A send needs a request id: it may be sent more than once.
func (s *Session) Do(ctx context.Context, frame *messagev1.ChatRequest) *Call {
	call := &Call{frame: frame, answer: make(chan answer, 1)}
	select {
	case s.calls <- call:
	case <-ctx.Done():
		call.answer <- answer{err: ctx.Err()}
	}
	return call
}

// Wait returns the answer to a frame. Call it once.
func (c *Call) Wait(ctx context.Context) (*messagev1.Ack, error) {
	select {
	case answer := <-c.answer:
		return answer.ack, answer.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Run returns when the context ends, or if a retry would not help, for example because the user may not act.
func (s *Session) Run(ctx context.Context) error {
	defer close(s.items)
	for failures := 0; ; failures++ {
		wasOpen, pause, err := s.connect(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !mayTryAgain(err) {
			return err
		}
		if wasOpen {
			failures = 0
		}
		if pause == 0 {
			pause = pauseAfter(failures)
		}
		log.Printf("the session of %s is tried again in %v: %v", s.actorID, pause, err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// connect uses one connection, from open to the error that ended it. Returns the retry delay that the server requested,
// if any.
func (s *Session) connect(ctx context.Context) (isOpen bool, pause time.Duration, err error) {
	// The stream ends when this function returns.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := s.client.Chat(ctx)
	if err != nil {
		return false, retryDelay(err), err
	}
	open := &messagev1.ChatOpen{
		ActorId: s.actorID, Epoch: s.epoch, Start: messagev1.SubscribeStart_SUBSCRIBE_START_BEGINNING,
	}
	var cursors []*messagev1.Cursor
	for id, after := range s.cursors {
		cursors = append(cursors, &messagev1.Cursor{ConversationId: id, AfterSequence: after})
	}
	open.Cursors, cursors = cursors[:min(len(cursors), maxCursors)], cursors[min(len(cursors), maxCursors):]
	open.MoreCursors = len(cursors) > 0
	transmit := func(frame *messagev1.ChatRequest) {
		// If this fails the stream is broken, and receiving returns the error.
		_ = stream.Send(frame)
	}
	transmit(&messagev1.ChatRequest{Frame: &messagev1.ChatRequest_Open{Open: open}})
	for part := range slices.Chunk(cursors, maxCursors) {
		cursors = cursors[len(part):]
		more := &messagev1.ChatCursors{Cursors: part, MoreCursors: len(cursors) > 0}
		transmit(&messagev1.ChatRequest{Frame: &messagev1.ChatRequest_Cursors{Cursors: more}})
	}

	responses, ended := make(chan *messagev1.ChatResponse), make(chan error, 1)
	go receive(ctx, stream, responses, ended)
	isDraining := false
	alarm := time.NewTimer(silence)
	for {
		var calls <-chan *Call // nil, which is never ready, while no frame may go out
		if isOpen && !isDraining && len(s.unanswered) < maxUnanswered {
			calls = s.calls
		}
		select {
		case call := <-calls:
			s.lastID++
			call.frame.FrameId = s.lastID
			s.unanswered = append(s.unanswered, call)
			transmit(call.frame)

		case response := <-responses:
			alarm.Reset(silence)
			switch item := response.Item.(type) {
			case *messagev1.ChatResponse_Opened:
				isOpen = true
				s.opened <- struct{}{}
				for _, call := range s.unanswered {
					transmit(call.frame)
				}
			case *messagev1.ChatResponse_Draining:
				// The server still answers the frames that it has read, then ends the stream.
				isDraining, pause = true, item.Draining.RetryDelay.AsDuration()
			case *messagev1.ChatResponse_Ack:
				s.answered(item.Ack.FrameId, answer{ack: item.Ack})
			case *messagev1.ChatResponse_Nack:
				err := status.FromProto(item.Nack.Status).Err()
				if !isOpen || mayTryAgain(err) {
					// All unanswered frames are sent again on a new connection, which keeps their order.
					return isOpen, retryDelay(err), err
				}
				s.answered(item.Nack.FrameId, answer{err: err})
			case *messagev1.ChatResponse_Event, *messagev1.ChatResponse_CaughtUp, *messagev1.ChatResponse_Closed,
				*messagev1.ChatResponse_Truncated:
				isNew, err := s.judge(response)
				if err != nil {
					return isOpen, 0, err
				}
				if !isNew {
					continue
				}
				select {
				case s.items <- response:
				case <-ctx.Done():
					return isOpen, 0, ctx.Err()
				}
			case *messagev1.ChatResponse_Heartbeat:
				if item.Heartbeat.Epoch != "" {
					s.epoch = item.Heartbeat.Epoch
				}
			default:
				// A kind newer than this program.
			}

		case err := <-ended:
			if pause == 0 {
				pause = retryDelay(err)
			}
			return isOpen, pause, err
		case <-alarm.C:
			return isOpen, 0, status.Error(codes.Unavailable, "the server was silent for too long")
		case <-ctx.Done():
			return isOpen, 0, ctx.Err()
		}
	}
}

// judge returns whether an item is new to the application, and advances the cursors. An error means that the connection
// cannot be trusted: whatever caused the gap, reading again from the cursor fixes it.
func (s *Session) judge(response *messagev1.ChatResponse) (bool, error) {
	switch item := response.Item.(type) {
	case *messagev1.ChatResponse_Event:
		id, sequence := item.Event.ConversationId, item.Event.Sequence
		if sequence == 0 {
			return true, nil // live only, and in no log
		}
		last, isKnown := s.cursors[id]
		if isKnown && sequence <= last {
			return false, nil
		}
		// An unknown conversation begins at its first entry received.
		if isKnown && sequence > last+1 {
			return false, status.Errorf(codes.Unavailable, "after entry %d of %s comes %d", last, id, sequence)
		}
		s.cursors[id] = sequence
	case *messagev1.ChatResponse_CaughtUp:
		id, sequence := item.CaughtUp.ConversationId, item.CaughtUp.Sequence
		if id == "" {
			return true, nil // of all conversations
		}
		if last, isKnown := s.cursors[id]; isKnown && last < sequence {
			return false, status.Errorf(codes.Unavailable, "caught up at %d of %s, without what comes after %d", sequence, id, last)
		}
		s.cursors[id] = sequence
	case *messagev1.ChatResponse_Truncated:
		// Entries removed by retention are announced, and are not a gap.
		id, before := item.Truncated.ConversationId, item.Truncated.OldestSequence-1
		s.cursors[id] = max(s.cursors[id], before)
	case *messagev1.ChatResponse_Closed:
		delete(s.cursors, item.Closed.ConversationId)
	}
	return true, nil
}

func (s *Session) answered(frameID uint64, answer answer) {
	for i, call := range s.unanswered {
		if call.frame.FrameId == frameID {
			s.unanswered = append(s.unanswered[:i:i], s.unanswered[i+1:]...)
			call.answer <- answer
			return
		}
	}
}

func receive(
	ctx context.Context, stream messagev1.MessageService_ChatClient, responses chan<- *messagev1.ChatResponse, ended chan<- error,
) {
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			err = status.Error(codes.Unavailable, "the server has ended the stream")
		}
		if err != nil {
			ended <- err
			return
		}
		select {
		case responses <- response:
		case <-ctx.Done():
			return
		}
	}
}

// pauseAfter returns a pause that grows and is jittered, so that clients do not all reconnect at once.
func pauseAfter(failures int) time.Duration {
	longest := min(firstPause<<min(failures, 10), lastPause)
	return longest/2 + rand.N(longest/2)
}

// mayTryAgain returns true if a retry may succeed and, with a request id, is harmless.
func mayTryAgain(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.Aborted, codes.DeadlineExceeded:
		return true
	default:
		// Every error from the services has a reason: one without comes from the connection.
		reason := reason(err)
		return reason == "" || reason == "OVERLOADED"
	}
}

// reason returns the reason of an error (parlance.error.v1.ErrorReason); empty if the error does not come from the services.
func reason(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.Reason
		}
	}
	return ""
}

// retryDelay returns the retry delay that the server requested, or 0.
func retryDelay(err error) time.Duration {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			return info.RetryDelay.AsDuration()
		}
	}
	return 0
}
