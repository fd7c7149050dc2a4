// A client of a ledger that has nothing but Kafka: requests in JSON on ALL and ONE, typed rows on RESPONSE.
//
//	KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:9092 go run .
package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// A statement with values for $1, $2, …, which are never part of its text.
type statement struct {
	SQL    string `json:"sql"`
	Params []any  `json:"params"`
}

func sql(text string, params ...any) statement {
	return statement{text, params}
}

type request struct {
	MessageID  string      `json:"messageId"`
	ClientID   string      `json:"clientId"`
	Statements []statement `json:"statements"`
	After      uint64      `json:"after"`
}

type column struct{ Name, Type string }

type answer struct {
	RequestID, ClientID, ResultCode, SQLState string
	Offset                                    uint64
	Results                                   []struct {
		RowsChanged uint64
		Columns     []column
		Rows        [][]any
	}
}

type ledger struct {
	kafka *kgo.Client
	id    string
	seen  uint64
}

func topic(variable, otherwise string) string {
	if name := os.Getenv(variable); name != "" {
		return name
	}
	return otherwise
}

// Sends the statements as one transaction, and waits for its answer.
func (l *ledger) ask(ctx context.Context, to string, statements ...statement) (answer, error) {
	asked := request{rand.Text(), l.id, statements, 0}
	if to == topic("KAFKA_ONE_TOPIC", "ONE") {
		// What this client has written or read before is seen.
		asked.After = l.seen
	}
	body, err := json.Marshal(asked)
	if err != nil {
		return answer{}, err
	}
	if err := l.kafka.ProduceSync(ctx, &kgo.Record{Topic: to, Value: body}).FirstErr(); err != nil {
		return answer{}, err
	}
	for {
		fetched := l.kafka.PollFetches(ctx)
		if ctx.Err() != nil {
			// Not a new id: under the same one nothing is done twice.
			return answer{}, fmt.Errorf("no answer to %s: ask again under the same id", asked.MessageID)
		}
		for _, record := range fetched.Records() {
			var got answer
			if err := json.Unmarshal(record.Value, &got); err != nil || got.ClientID != l.id || got.RequestID != asked.MessageID {
				continue
			}
			l.seen = max(l.seen, got.Offset)
			if got.ResultCode != "OK" {
				return got, fmt.Errorf("%s (SQLSTATE %s)", got.ResultCode, got.SQLState)
			}
			return got, nil
		}
	}
}

func main() {
	kafka, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(topic("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9092"), ",")...),
		// Its own answers are known by their ids; where it began to listen does not matter then.
		kgo.ConsumeTopics(topic("KAFKA_RESPONSE_TOPIC", "RESPONSE")),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DefaultProduceTopic(topic("KAFKA_ALL_TOPIC", "ALL")),
		kgo.ProducerLinger(0),
	)
	if err != nil {
		log.Fatal(err)
	}
	defer kafka.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	l := &ledger{kafka: kafka, id: "go-" + rand.Text()}
	all, one := topic("KAFKA_ALL_TOPIC", "ALL"), topic("KAFKA_ONE_TOPIC", "ONE")
	insert := "INSERT INTO go_account VALUES ($1, $2, $3)"
	for _, statements := range [][]statement{
		{sql("CREATE TABLE go_account (id bigint PRIMARY KEY, name varchar(40), balance numeric(12,2))")},
		{sql(insert, 1, "Ada", "10.50"), sql(insert, 2, "Grace", 20)},
	} {
		if _, err := l.ask(ctx, all, statements...); err != nil {
			log.Fatal(err)
		}
	}
	got, err := l.ask(ctx, one, sql("SELECT id, name, balance FROM go_account WHERE balance > $1 ORDER BY id", 0))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(got.Results[0].Columns)
	for _, row := range got.Results[0].Rows {
		fmt.Println(row...)
	}
	got, err = l.ask(ctx, all, sql(insert, 1, "Edsger", 30))
	fmt.Println("refused:", err != nil, got.SQLState)
}
