package main

import (
	"context"
	"errors"
	"io"
	"log"
	"math/rand/v2"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	messagev1 "parlance.dev/examples/gen/parlance/message/v1"
)

const (
	firstPause = 100 * time.Millisecond
	lastPause  = 5 * time.Second
	// The server breaks every silence after 30 s at most.
	silence = 45 * time.Second
	// The server refuses what goes beyond 256 unanswered frames.
	maxUnanswered = 128
	// What may wait for the application. When it is full the session takes nothing more, answers to frames included.
	maxKept = 1024
)

// Session is one user's Chat, kept up over lost connections and restarts of the server: entries come in order, without a
// hole or a double, and frames are done once, in their order.
type Session struct {
	// Items is what the server tells, in order: event, caught_up, closed and truncated. Closed when Run returns.
	Items <-chan *messagev1.ChatResponse

	client  messagev1.MessageServiceClient
	actorID string
	items   chan *messagev1.ChatResponse
	calls   chan *Call
	opened  chan struct{}

	// All below belong to Run alone.

	// The last sequence of each conversation: what the server is asked to go on after.
	cursors map[string]int64
	// Frames without an answer, in order. They go out again on the next connection.
	unanswered []*Call
	lastID     uint64
}

// Call is a frame that was handed to a session.
type Call struct {
	frame  *messagev1.ChatRequest
	answer chan answer
}

type answer struct {
	ack *messagev1.Ack
	err error
}

// NewSession makes a session. Run keeps it up.
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

// Opened has one value for each time that the session was opened.
func (s *Session) Opened() <-chan struct{} {
	return s.opened
}

// Do hands a frame over and does not wait for its answer. A send needs a request id: it may go out more than once.
func (s *Session) Do(ctx context.Context, frame *messagev1.ChatRequest) *Call {
	call := &Call{frame: frame, answer: make(chan answer, 1)}
	select {
	case s.calls <- call:
	case <-ctx.Done():
		call.answer <- answer{err: ctx.Err()}
	}
	return call
}

// Wait gives the answer to a frame. Call it once.
func (c *Call) Wait(ctx context.Context) (*messagev1.Ack, error) {
	select {
	case answer := <-c.answer:
		return answer.ack, answer.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Run returns when the context ends, or when trying again would not help, such as for a user who may not act.
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

// connect is one connection, from open to the error that ended it. The pause is what the server asked for, if it did.
func (s *Session) connect(ctx context.Context) (isOpen bool, pause time.Duration, err error) {
	// Whatever the reason to leave, the stream ends with it.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := s.client.Chat(ctx)
	if err != nil {
		return false, retryDelay(err), err
	}
	open := &messagev1.ChatOpen{ActorId: s.actorID, Start: messagev1.SubscribeStart_SUBSCRIBE_START_BEGINNING}
	for id, after := range s.cursors {
		open.Cursors = append(open.Cursors, &messagev1.Cursor{ConversationId: id, AfterSequence: after})
	}
	transmit := func(frame *messagev1.ChatRequest) {
		// When this fails the stream is broken, and receiving says why.
		_ = stream.Send(frame)
	}
	transmit(&messagev1.ChatRequest{Frame: &messagev1.ChatRequest_Open{Open: open}})

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
				// What was read is still answered, then the server ends the stream.
				isDraining, pause = true, item.Draining.RetryDelay.AsDuration()
			case *messagev1.ChatResponse_Ack:
				s.answered(item.Ack.FrameId, answer{ack: item.Ack})
			case *messagev1.ChatResponse_Nack:
				err := status.FromProto(item.Nack.Status).Err()
				if !isOpen || mayTryAgain(err) {
					// All frames that have no answer go out again on a new connection, which keeps their order.
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
			default:
				// A heartbeat, or something that was added to the contract after this program was made.
			}

		case err := <-ended:
			if pause == 0 {
				pause = retryDelay(err)
			}
			return isOpen, pause, err
		case <-alarm.C:
			return isOpen, 0, status.Error(codes.Unavailable, "nothing was heard for too long")
		case <-ctx.Done():
			return isOpen, 0, ctx.Err()
		}
	}
}

// judge says whether something is new to the application, and moves the cursors. An error is a connection that cannot be
// trusted: whatever a hole comes from, reading again from the cursor mends it.
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
		// A conversation that is not known yet begins wherever the server begins.
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
		// What retention has removed never comes: it is announced, and no hole.
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

// pauseAfter grows and is never the same, so that not all clients come back at one moment.
func pauseAfter(failures int) time.Duration {
	longest := min(firstPause<<min(failures, 10), lastPause)
	return longest/2 + rand.N(longest/2)
}

// mayTryAgain is true when the same thing may work later, and, with a request id, is harmless to ask for again.
func mayTryAgain(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.Aborted, codes.DeadlineExceeded:
		return true
	default:
		// Every error of the services has a reason: one without was made by the connection.
		reason := reason(err)
		return reason == "" || reason == "OVERLOADED"
	}
}

// reason is an error's word for programs, of parlance.error.v1.ErrorReason; empty when the error is none of the services'.
func reason(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.Reason
		}
	}
	return ""
}

// retryDelay is how long the server asked to wait, or 0.
func retryDelay(err error) time.Duration {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			return info.RetryDelay.AsDuration()
		}
	}
	return 0
}
