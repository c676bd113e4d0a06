-- The match status of an imported game, which the load stage writes and cannot do without (`steam-import db check`).
CREATE TYPE "IgdbMatchStatus" AS ENUM ('PENDING', 'MATCHED', 'UNMATCHED', 'IGNORED');

ALTER TABLE "ImportedGame" ADD COLUMN "igdbMatchStatus" "IgdbMatchStatus" NOT NULL DEFAULT 'PENDING';
