// The shared model of the core, with types and errors of our own.

import * as core from '../../pkg/nearfield.js';
import { Handle } from './handle.js';
import { receive, take } from './pack.js';
import { digits } from './packed.js';
import { COUNT, Ranking, checkCount } from './ranking.js';

/** The shared model: the same bytes for everyone. Free it, or leave it to the collector. */
export class Model {
  readonly #handle: Handle;
  #ids = new Map<number, string>();
  #idsOf = '';

  /** @internal Keeps the model that `make` has the core make. */
  constructor(make: () => number) {
    this.#handle = new Handle(core.modelFree, make);
  }

  /** @internal What the core calls it. Throws `core.lost` after a trap. */
  get number(): number {
    return this.#handle.number;
  }

  /** Reads a pack. Throws `pack.*` and keeps nothing when the bytes are not a whole pack. */
  static load(pack: Uint8Array): Model {
    return new Model(() => take(pack, () => core.packBegin(pack.length), core.packFinish));
  }

  /** @internal Reads a pack of so many bytes that comes piece by piece. */
  static receive(pieces: AsyncIterable<Uint8Array>, bytes: number): Promise<Model> {
    return receive(pieces, () => core.packBegin(bytes), core.packFinish, (make) => new Model(make));
  }

  /** The lineage: row numbers and factors of another one mean something else. */
  get lineage(): string {
    return digits(this.#handle.use((model) => core.modelLineage(model)));
  }

  /** The version; it only rises. */
  get version(): number {
    return this.#handle.use((model) => core.modelVersion(model));
  }

  /** Rows of the catalogue, withdrawn ones included. */
  get length(): number {
    return this.#handle.use((model) => core.modelLength(model));
  }

  /** Factors an item. */
  get dim(): number {
    return this.#handle.use((model) => core.modelDim(model));
  }

  /** Brings the model to the next version. Throws `patch.*` and changes nothing if it does not fit. */
  apply(patch: Uint8Array): void {
    this.#handle.use((model) => core.modelApply(model, patch));
  }

  /** The model as a pack. */
  toPack(): Uint8Array {
    return this.#handle.use((model) => core.modelToPack(model));
  }

  /** The row of an item, if the catalogue has it. */
  row(itemId: string): number | undefined {
    return this.#handle.use((model) => core.modelRow(model, itemId));
  }

  /** The operator's id of a row; throws `model.unknown_row` if there is none. */
  itemId(row: number): string {
    const lineage = this.lineage;
    if (this.#idsOf !== lineage) {
      this.#ids.clear();
      this.#idsOf = lineage;
    }
    // A row keeps its id within a lineage, so an id crosses from the core once.
    let id = this.#ids.get(row);
    if (id === undefined) {
      id = this.#handle.use((model) => core.modelItemId(model, row));
      this.#ids.set(row, id);
    }
    return id;
  }

  /** Whether the operator has withdrawn the row's item. */
  isWithdrawn(row: number): boolean {
    return this.#handle.use((model) => core.modelIsWithdrawn(model, row));
  }

  /** The most popular items. */
  popular(count: number = COUNT): Ranking {
    checkCount(count);
    return new Ranking(this.#handle.use((model) => core.modelPopular(model, count)), this);
  }

  /** The items most like this one; none if the catalogue does not have it. */
  similar(itemId: string, count: number = COUNT): Ranking {
    checkCount(count);
    const row = this.row(itemId);
    return new Ranking(row === undefined ? new Uint32Array(0) : this.#handle.use((model) => core.modelSimilar(model, row, count)), this);
  }

  /** @internal Rows of ids or rows; what the catalogue does not have is left out. */
  rowsOf(given: Iterable<string | number> | Uint32Array): Uint32Array {
    if (given instanceof Uint32Array) return given;
    return Uint32Array.from(Array.from(given, (id) => this.row(String(id))).filter((row) => row !== undefined));
  }

  /** Gives the memory back at once; the model must not be used after. */
  free(): void {
    this.#handle.free();
  }

  [Symbol.dispose](): void {
    this.free();
  }
}
