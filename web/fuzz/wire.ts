// Arbitrary encodings of messages: any fields in any order, repeated or absent, with ordinary and with extreme values, and some
// bytes changed. Built from the descriptors, so new fields are covered.

import type { DescField, DescMessage } from "@bufbuild/protobuf";
import { ScalarType } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { AnySchema, anyPack, type Any } from "@bufbuild/protobuf/wkt";
import { create, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";

import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../gen/google/rpc/error_details_pb";
import { ErrorReasonSchema } from "../gen/parlance/error/v1/error_reason_pb";

/** The most fields of a message, by its depth: few, so that many are tried. */
const MAX_FIELDS = [3, 6, 3, 2];

type Bytes = fc.Arbitrary<Uint8Array>;
type Write = (writer: BinaryWriter) => BinaryWriter;

const names = fc.constantFrom("c", "d", "ada", "bob", "", "~dab", "__proto__", "constructor", "toString");
const reasons = fc.oneof(fc.constantFrom(...ErrorReasonSchema.values.map(({ name }) => name.replace("ERROR_REASON_", ""))), names);
const texts = fc.oneof({ weight: 3, arbitrary: names }, fc.string({ unit: "binary", maxLength: 12 }));
const extremes = fc.constantFrom(0n, -1n, 2n ** 53n, 2n ** 63n - 1n, -(2n ** 63n));
const longs = fc.oneof({ weight: 4, arbitrary: fc.bigInt(1n, 12n) }, extremes, fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n));
const ints = fc.oneof({ weight: 3, arbitrary: fc.integer({ min: 0, max: 18 }) }, fc.integer());

/** Encodings of a message. */
export function encoded(schema: DescMessage): Bytes {
  const whole = message(schema, 0);
  const change = fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 }));
  const changed = fc.tuple(whole, fc.array(change, { minLength: 1, maxLength: 3 })).map(([bytes, changes]) => {
    const copy = Uint8Array.from(bytes);
    for (const [at, byte] of changes) if (copy.length > 0) copy[at % copy.length] = byte;
    return copy;
  });
  return fc.oneof({ weight: 4, arbitrary: whole }, changed, fc.uint8Array({ maxLength: 24 }));
}

function message(schema: DescMessage, depth: number): Bytes {
  if (schema.typeName === AnySchema.typeName) return details.map((any) => toBinary(AnySchema, any));
  const fields = schema.fields.map((field) => value(field, depth)).filter((field) => field !== undefined);
  if (fields.length === 0) return fc.constant(new Uint8Array());
  const written = (writes: Write[]) => writes.reduce((writer, write) => write(writer), new BinaryWriter()).finish();
  return fc.array(fc.oneof(...fields), { maxLength: MAX_FIELDS[depth] ?? 0 }).map(written);
}

/** The field with a value; nothing where messages would be nested too deeply. */
function value(field: DescField, depth: number): fc.Arbitrary<Write> | undefined {
  const tagged = <T>(type: WireType, values: fc.Arbitrary<T>, write: (writer: BinaryWriter, value: T) => BinaryWriter) =>
    values.map((value): Write => (writer) => write(writer.tag(field.number, type), value));
  const delimited = (values: Bytes) => tagged(WireType.LengthDelimited, values, (writer, value) => writer.bytes(value));
  if (field.message !== undefined) return depth + 1 < MAX_FIELDS.length ? delimited(message(field.message, depth + 1)) : undefined;
  if (field.fieldKind === "map") {
    const entry = fc.tuple(texts, texts).map(([key, value]) =>
      new BinaryWriter().tag(1, WireType.LengthDelimited).string(key).tag(2, WireType.LengthDelimited).string(value).finish());
    return delimited(entry);
  }
  if (field.scalar === ScalarType.STRING) return tagged(WireType.LengthDelimited, texts, (writer, value) => writer.string(value));
  if (field.scalar === ScalarType.BYTES) return delimited(fc.uint8Array({ maxLength: 12 }));
  if (field.scalar === ScalarType.BOOL) return tagged(WireType.Varint, fc.boolean(), (writer, value) => writer.bool(value));
  if (field.scalar === ScalarType.INT64) return tagged(WireType.Varint, longs, (writer, value) => writer.int64(value));
  return tagged(WireType.Varint, ints, (writer, value) => writer.int32(value));
}

/** The details of errors that the page reads. */
const details: fc.Arbitrary<Any> = fc.oneof(
  fc.tuple(reasons, fc.constantFrom("parlance", "other"), fc.dictionary(texts, texts, { maxKeys: 2, noNullPrototype: true }))
    .map(([reason, domain, metadata]) => anyPack(ErrorInfoSchema, create(ErrorInfoSchema, { reason, domain, metadata }))),
  fc.tuple(longs, ints).map(([seconds, nanos]) =>
    anyPack(RetryInfoSchema, create(RetryInfoSchema, { retryDelay: { seconds, nanos } }))),
  fc.array(fc.record({ field: texts, description: texts }), { maxLength: 3 }).map((fieldViolations) =>
    anyPack(BadRequestSchema, create(BadRequestSchema, { fieldViolations }))),
  fc.tuple(texts, fc.uint8Array({ maxLength: 12 })).map(([typeUrl, value]) => create(AnySchema, { typeUrl, value })),
);
